// 8-bit integers: ONNX QuantizeLinear and DequantizeLinear, and the exact sums of layers between them.
import { ModelError } from "../onnx/protobuf.js";
import { sizeOf, zeros } from "../onnx/tensor.js";

/**
 * @typedef {import("../onnx/tensor.js").Tensor} Tensor
 * @typedef {import("../onnx/tensor.js").Data} Data
 * @typedef {(data: any, weights: any, bias: any, result: any) => void} Compute
 */

const RANGES = { uint8: [0, 255], int8: [-128, 127] };
const round = Math.fround;

/** Half to even, as processors round. @param {number} value */
export function roundHalfEven(value) {
  const nearest = Math.round(value);
  return nearest - value === 0.5 && nearest % 2 ? nearest - 1 : nearest;
}

/** @param {Tensor[]} inputs value, scale, zero point @returns {Tensor} */
export function quantizeLinear([x, scale, zero]) {
  if (scale.data.length !== 1) throw new ModelError("only one scale per layer is supported");
  const type = zero?.type ?? "uint8";
  if (type !== "uint8" && type !== "int8") throw new ModelError(`rounding to ${type} is not supported`);
  const [lowest, highest] = RANGES[type];
  const offset = zero ? zero.data[0] : 0;
  const result = zeros(type, x.shape);
  const { data } = result;
  const { sums } = x;
  const cells = sizeOf(x.shape.slice(2));
  const channels = x.shape[1] ?? 1;
  const factors = sums && Float32Array.from(sums.scale, (factor) => factor / scale.data[0]);
  for (let i = 0; i < data.length; i++) {
    const exact = sums && factors
      ? Math.min(round(round(sums.sums[i]) * factors[factors.length > 1 ? Math.floor(i / cells) % channels : 0]), sums.most / scale.data[0])
      : round(x.data[i] / scale.data[0]); // prettier-ignore
    const limited = Math.min(Math.max(exact, lowest - offset), highest - offset);
    data[i] = roundHalfEven(limited) + offset;
  }
  return result;
}

/**
 * @param {Tensor[]} inputs integers, scale, zero point
 * @param {import("../onnx/model.js").Attributes} attributes
 * @returns {Tensor}
 */
export function dequantizeLinear([x, scale, zero], attributes) {
  const axis = scale.data.length > 1 ? ((attributes.axis ?? 1) + x.shape.length) % x.shape.length : 0;
  const inner = scale.data.length > 1 ? sizeOf(x.shape.slice(axis + 1)) : x.data.length;
  const result = zeros("float32", x.shape);
  for (let i = 0; i < x.data.length; i++) {
    const channel = Math.floor(i / inner) % scale.data.length;
    result.data[i] = (x.data[i] - (zero ? zero.data[channel % zero.data.length] : 0)) * scale.data[channel];
  }
  result.quantized = { data: x.data, scale: scale.data, zero: zero ? zero.data : null, axis };
  return result;
}

/**
 * What a layer makes of rounded inputs and weights, in integers, as ONNX Runtime's kernels do it.
 * @param {Tensor[]} inputs value, weights (filters, ...), perhaps a bias
 * @param {number[]} shape of the result
 * @param {Compute} compute
 * @returns {Tensor | null} null if the inputs are not rounded
 */
export function integerSums([x, weight, bias], shape, compute) {
  if (!x.quantized || !weight.quantized || (bias && !bias.quantized)) return null;
  if (weight.quantized.axis !== 0 || x.quantized.scale.length !== 1) return null;
  if (weight.quantized.zero?.some((zero) => zero !== 0)) return null;
  const zero = x.quantized.zero?.[0] ?? 0;
  const centered = Float32Array.from(x.quantized.data, (value) => value - zero);
  const sums = new Float64Array(sizeOf(shape));
  compute(centered, weight.quantized.data, bias?.quantized?.data ?? null, sums);
  const first = x.quantized.scale[0];
  const scale = Float32Array.from(weight.quantized.scale, (factor) => factor * first);
  const cells = sizeOf(shape.slice(2));
  const result = zeros("float32", shape);
  for (let i = 0; i < sums.length; i++) {
    result.data[i] = round(sums[i]) * scale[scale.length > 1 ? Math.floor(i / cells) % shape[1] : 0];
  }
  result.sums = { sums, scale, most: Infinity };
  return result;
}

/** ReLU and ReLU6 keep the integers behind their input; quantization clips the same values.
 * @param {Tensor} x @param {number} most */
export function positiveSums(x, most) {
  return x.sums && { sums: x.sums.sums.map((value) => Math.max(0, value)), scale: x.sums.scale, most };
}
