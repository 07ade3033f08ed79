// Convolution: ONNX Conv in two dimensions.
import { ModelError } from "../onnx/protobuf.js";
import { floats } from "../onnx/tensor.js";
import { multiply } from "./dot.js";
import { integerSums } from "./quantize.js";
import { slide } from "./window.js";

/**
 * @typedef {import("../onnx/tensor.js").Tensor} Tensor
 * @typedef {import("./window.js").Windows} Windows
 */

/**
 * @param {Tensor[]} inputs images (n, channels, h, w), weights (filters, channels / group, kh, kw), perhaps a bias
 * @param {import("../onnx/model.js").Attributes} attributes
 * @returns {Tensor} (n, filters, h', w')
 */
export function conv(inputs, attributes) {
  const [x, weight] = inputs;
  const windows = slide(x.shape, weight.shape.slice(2), attributes);
  const group = attributes.group ?? 1;
  const [filters, depth] = weight.shape;
  if (depth * group !== x.shape[1] || filters % group) {
    throw new ModelError(`weights of shape (${weight.shape}) do not fit feature maps of shape (${x.shape})`);
  }
  const compute = (/** @type {any} */ data, /** @type {any} */ kernel, /** @type {any} */ bias, /** @type {any} */ out) =>
    convolve(data, kernel, bias, out, { windows, group, filters, depth, images: x.shape[0] });
  const shape = [x.shape[0], filters, ...windows.output];
  const exact = integerSums(inputs, shape, compute);
  if (exact) return exact;
  const result = new Float32Array(shape.reduce((a, b) => a * b, 1));
  compute(x.data, weight.data, inputs[2]?.data ?? null, result);
  return floats(shape, result);
}

/**
 * @param {import("../onnx/tensor.js").Data} data @param {import("../onnx/tensor.js").Data} kernel
 * @param {import("../onnx/tensor.js").Data | null} bias @param {import("../onnx/tensor.js").Data} result
 * @param {{windows: Windows, group: number, filters: number, depth: number, images: number}} layout
 */
function convolve(data, kernel, bias, result, { windows, group, filters, depth, images }) {
  const area = windows.input[0] * windows.input[1];
  const cells = windows.output[0] * windows.output[1];
  const length = depth * windows.size[0] * windows.size[1];
  const part = filters / group;
  const patches = new Float32Array(cells * length);
  for (let image = 0; image < images; image++) {
    for (let g = 0; g < group; g++) {
      const first = (image * group + g) * depth * area;
      gather(data.subarray(first, first + depth * area), patches, depth, windows);
      const rows = kernel.subarray(g * part * length, (g + 1) * part * length);
      const start = bias && bias.subarray(g * part, (g + 1) * part);
      multiply(rows, patches, length, result, start, part, cells, (image * filters + g * part) * cells);
    }
  }
}

/**
 * The window of every output cell, (cells, channels * kh * kw); padding is 0.
 * @param {import("../onnx/tensor.js").Data} data (channels, h, w)
 * @param {Float32Array} patches @param {number} depth @param {Windows} windows
 */
function gather(data, patches, depth, { size, stride, dilation, begin, input, output }) {
  const [height, width] = input;
  let at = 0;
  for (let row = 0; row < output[0]; row++) {
    for (let column = 0; column < output[1]; column++) {
      const top = row * stride[0] - begin[0];
      const left = column * stride[1] - begin[1];
      const inside = top >= 0 && left >= 0 && top + (size[0] - 1) * dilation[0] < height &&
        left + (size[1] - 1) * dilation[1] < width; // prettier-ignore
      for (let channel = 0; channel < depth; channel++) {
        for (let i = 0; i < size[0]; i++) {
          const y = top + i * dilation[0];
          let from = (channel * height + y) * width + left;
          if (inside) {
            for (let j = 0; j < size[1]; j++, from += dilation[1]) patches[at++] = data[from];
            continue;
          }
          for (let j = 0, x = left; j < size[1]; j++, x += dilation[1], from += dilation[1]) {
            patches[at++] = y >= 0 && y < height && x >= 0 && x < width ? data[from] : 0;
          }
        }
      }
    }
  }
}
