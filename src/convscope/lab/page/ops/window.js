// Windows that slide over feature maps: where each begins, for convolution and pooling (article, A2).
import { ModelError } from "../onnx/protobuf.js";

/**
 * @typedef {object} Windows
 * @property {number[]} size of a window: [height, width]
 * @property {number[]} stride
 * @property {number[]} dilation
 * @property {number[]} begin padding [top, left]
 * @property {number[]} input [height, width] without padding
 * @property {number[]} output [height, width]
 */

/**
 * @param {number[]} shape of the input: (n, channels, height, width)
 * @param {number[]} size of the window
 * @param {import("../onnx/model.js").Attributes} attributes
 * @returns {Windows}
 */
export function slide(shape, size, attributes) {
  if (shape.length !== 4 || size.length !== 2) {
    throw new ModelError(`expected feature maps (n, channels, height, width), got shape (${shape})`);
  }
  const input = shape.slice(2);
  const stride = attributes.strides ?? [1, 1];
  const dilation = attributes.dilations ?? [1, 1];
  const mode = attributes.auto_pad ?? "NOTSET";
  let pads = attributes.pads ?? [0, 0, 0, 0];
  if (mode.startsWith("SAME")) {
    const missing = [0, 1].map((i) =>
      Math.max(0, (Math.ceil(input[i] / stride[i]) - 1) * stride[i] + (size[i] - 1) * dilation[i] + 1 - input[i]),
    );
    const begin = missing.map((pad) => (mode === "SAME_LOWER" ? Math.ceil(pad / 2) : Math.floor(pad / 2)));
    pads = [...begin, ...missing.map((pad, i) => pad - begin[i])];
  } else if (mode === "VALID") pads = [0, 0, 0, 0];
  const output = [0, 1].map((i) => {
    const places = (input[i] + pads[i] + pads[i + 2] - (size[i] - 1) * dilation[i] - 1) / stride[i];
    if (!attributes.ceil_mode) return Math.floor(places) + 1;
    const count = Math.ceil(places) + 1; // a window must not begin in the padding behind the image
    return (count - 1) * stride[i] >= input[i] + pads[i] ? count - 1 : count;
  });
  if (output.some((side) => side < 1)) throw new ModelError(`a window of ${size} does not fit into ${input}`);
  return { size, stride, dilation, begin: pads.slice(0, 2), input, output };
}
