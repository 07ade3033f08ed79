// Functions of each value, and of pairs of values.
import { ModelError } from "../onnx/protobuf.js";
import { floats, sizeOf, zeros } from "../onnx/tensor.js";

/** @typedef {import("../onnx/tensor.js").Tensor} Tensor */

/** @param {Tensor} x @param {(value: number) => number} f @returns {Tensor} */
export function each(x, f) {
  const result = zeros(x.type === "int64" ? "int64" : "float32", x.shape);
  for (let i = 0; i < x.data.length; i++) result.data[i] = f(x.data[i]);
  return result;
}

/**
 * f of two tensors whose shapes are broadcast as in NumPy.
 * @param {Tensor} a @param {Tensor} b @param {(a: number, b: number) => number} f
 * @returns {Tensor}
 */
export function pairwise(a, b, f) {
  const rank = Math.max(a.shape.length, b.shape.length);
  const [left, right] = [a, b].map(({ shape }) => [...Array(rank - shape.length).fill(1), ...shape]);
  const shape = left.map((side, i) => {
    if (side !== right[i] && side !== 1 && right[i] !== 1) {
      throw new ModelError(`the shapes (${a.shape}) and (${b.shape}) do not fit together`);
    }
    return side === 1 ? right[i] : side;
  });
  const result = zeros(a.type === "int64" ? "int64" : "float32", shape);
  const { data } = result;
  if (a.data.length === data.length && b.data.length === data.length) {
    for (let i = 0; i < data.length; i++) data[i] = f(a.data[i], b.data[i]);
    return result;
  }
  const [stepsA, stepsB] = [left, right].map(broadcastSteps);
  const position = Array(rank).fill(0);
  for (let i = 0, x = 0, y = 0; i < data.length; i++) {
    data[i] = f(a.data[x], b.data[y]);
    for (let axis = rank - 1; axis >= 0; axis--) {
      x += stepsA[axis];
      y += stepsB[axis];
      if (++position[axis] < shape[axis]) break;
      x -= stepsA[axis] * shape[axis];
      y -= stepsB[axis] * shape[axis];
      position[axis] = 0;
    }
  }
  return result;
}

/** Steps between neighbors along each axis; 0 where a side of 1 is repeated. @param {number[]} shape */
function broadcastSteps(shape) {
  return shape.map((side, i) => (side === 1 ? 0 : sizeOf(shape.slice(i + 1))));
}

/**
 * The error function, by a series of positive terms; absolute error below 1e-9.
 * @param {number} x
 */
export function erf(x) {
  const size = Math.abs(x);
  if (size > 4.5) return Math.sign(x);
  let term = size, sum = size;
  for (let n = 1; term > sum * 1e-10; n++) {
    term *= (2 * size * size) / (2 * n + 1);
    sum += term;
  }
  return Math.sign(x) * Math.min(1, (2 / Math.sqrt(Math.PI)) * Math.exp(-size * size) * sum);
}

/** @param {number} x */
export const sigmoid = (x) => 1 / (1 + Math.exp(-x));

/** @param {number} x @param {boolean} approximate */
export function gelu(x, approximate) {
  if (!approximate) return (x / 2) * (1 + erf(x * Math.SQRT1_2));
  return (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}

/**
 * (x - mean) / sqrt(variance + epsilon) * scale + bias, per channel.
 * @param {Tensor[]} inputs x (n, channels, ...), scale, bias, mean and variance (channels,)
 * @param {import("../onnx/model.js").Attributes} attributes
 * @returns {Tensor}
 */
export function batchNormalization([x, scale, bias, mean, variance], { epsilon = 1e-5 }) {
  const cells = sizeOf(x.shape.slice(2));
  const channels = x.shape[1];
  const result = new Float32Array(x.data.length);
  for (let map = 0; map * cells < result.length; map++) {
    const c = map % channels;
    const factor = scale.data[c] / Math.sqrt(variance.data[c] + epsilon);
    const offset = bias.data[c] - mean.data[c] * factor;
    for (let i = map * cells; i < (map + 1) * cells; i++) result[i] = x.data[i] * factor + offset;
  }
  return floats(x.shape, result);
}

/** Each part of the last axes less its mean, divided by its standard deviation, times scale plus shift.
 * @param {Tensor[]} inputs @param {import("../onnx/model.js").Attributes} attributes @returns {Tensor} */
export function layerNormalization([x, scale, shift], { axis = -1, epsilon = 1e-5 }) {
  const result = zeros("float32", x.shape), size = sizeOf(x.shape.slice(axis));
  for (let start = 0; start < x.data.length; start += size) {
    const part = Array.from(x.data.subarray(start, start + size));
    const mean = part.reduce((a, b) => a + b, 0) / size;
    const deviation = Math.sqrt(part.reduce((sum, value) => sum + (value - mean) ** 2, 0) / size + epsilon);
    part.forEach((value, i) => (result.data[start + i] = ((value - mean) / deviation) * scale.data[i] + (shift?.data[i] ?? 0)));
  }
  return result;
}
