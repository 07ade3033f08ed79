// Pooling (article, A5).
import { ModelError } from "../onnx/protobuf.js";
import { floats, sizeOf } from "../onnx/tensor.js";
import { slide } from "./window.js";

/** @typedef {import("../onnx/tensor.js").Tensor} Tensor */

/**
 * MaxPool or AveragePool; the rounded integers behind a value are kept by a maximum.
 * @param {Tensor} x (n, channels, h, w)
 * @param {import("../onnx/model.js").Attributes} attributes
 * @param {boolean} average
 * @returns {Tensor}
 */
export function pool(x, attributes, average) {
  const windows = slide(x.shape, attributes.kernel_shape, attributes);
  const { size, stride, dilation, begin, input, output } = windows;
  const maps = x.shape[0] * x.shape[1];
  const result = new Float32Array(maps * output[0] * output[1]);
  let at = 0;
  for (let map = 0; map < maps; map++) {
    const start = map * input[0] * input[1];
    for (let row = 0; row < output[0]; row++) {
      for (let column = 0; column < output[1]; column++) {
        let sum = 0, count = 0, largest = -Infinity;
        for (let i = 0; i < size[0]; i++) {
          const y = row * stride[0] - begin[0] + i * dilation[0];
          if (y < 0 || y >= input[0]) continue;
          for (let j = 0; j < size[1]; j++) {
            const c = column * stride[1] - begin[1] + j * dilation[1];
            if (c < 0 || c >= input[1]) continue;
            const value = x.data[start + y * input[1] + c];
            sum += value;
            count++;
            if (value > largest) largest = value;
          }
        }
        if (attributes.count_include_pad) count = size[0] * size[1];
        result[at++] = average ? sum / count : largest;
      }
    }
  }
  return floats([...x.shape.slice(0, 2), ...output], result);
}

/** GlobalAveragePool or GlobalMaxPool. @param {Tensor} x @param {boolean} average @returns {Tensor} */
export function globalPool(x, average) {
  if (x.shape.length < 3) throw new ModelError("global pooling expects feature maps");
  const cells = sizeOf(x.shape.slice(2));
  const result = new Float32Array(x.data.length / cells);
  for (let map = 0; map < result.length; map++) {
    let sum = 0, largest = -Infinity;
    for (let i = map * cells; i < (map + 1) * cells; i++) {
      sum += x.data[i];
      if (x.data[i] > largest) largest = x.data[i];
    }
    result[map] = average ? sum / cells : largest;
  }
  return floats([x.shape[0], x.shape[1], ...x.shape.slice(2).map(() => 1)], result);
}
