// Sums, means and the like along axes; softmax.
import { ModelError } from "../onnx/protobuf.js";
import { floats, sizeOf } from "../onnx/tensor.js";

/**
 * @typedef {import("../onnx/tensor.js").Tensor} Tensor
 * @typedef {import("../onnx/model.js").Attributes} Attributes
 */

/** What is done with the values of a group. @type {Record<string, (values: Float64Array) => number>} */
const REDUCTIONS = {
  ReduceMean: (values) => sum(values) / values.length,
  ReduceSum: sum,
  ReduceMax: (values) => values.reduce((a, b) => Math.max(a, b)),
  ReduceMin: (values) => values.reduce((a, b) => Math.min(a, b)),
  ReduceL2: (values) => Math.sqrt(sumOfSquares(values)),
  ReduceSumSquare: sumOfSquares,
  ReduceLogSumExp(values) {
    const largest = values.reduce((a, b) => Math.max(a, b));
    return largest + Math.log(sum(values.map((value) => Math.exp(value - largest))));
  },
};

/** @param {Float64Array} values */
function sum(values) {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i];
  return total;
}

/** @param {Float64Array} values */
function sumOfSquares(values) {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i] * values[i];
  return total;
}

/** Axes that may count from the end. @param {number} axis @param {number} rank */
export function fromStart(axis, rank) {
  if (axis < -rank || axis >= rank) throw new ModelError(`there is no axis ${axis} of ${rank}`);
  return axis < 0 ? axis + rank : axis;
}

/** Axes of an attribute or, in newer files, an input. @param {Tensor | undefined} input @param {Attributes} attributes */
export const axesOf = (input, attributes) => (input ? Array.from(input.data) : attributes.axes);

/**
 * @param {string} operator a key of REDUCTIONS
 * @param {Tensor[]} inputs x, perhaps axes
 * @param {Attributes} attributes
 * @returns {Tensor}
 */
export function reduce(operator, [x, input], attributes) {
  const rank = x.shape.length;
  const given = axesOf(input, attributes);
  if (given?.length === 0 && attributes.noop_with_empty_axes) return x;
  const axes = new Set((given?.length ? given : x.shape.map((_, i) => i)).map((/** @type {number} */ axis) => fromStart(axis, rank)));
  const keptAxes = x.shape.map((_, i) => i).filter((i) => !axes.has(i));
  const goneAxes = x.shape.map((_, i) => i).filter((i) => axes.has(i));
  const starts = positions(x.shape, keptAxes);
  const offsets = positions(x.shape, goneAxes);
  const values = new Float64Array(offsets.length);
  const f = REDUCTIONS[operator];
  const result = Float32Array.from(starts, (start) => {
    for (let i = 0; i < values.length; i++) values[i] = x.data[start + offsets[i]];
    return f(values);
  });
  const kept = attributes.keepdims ?? 1;
  const shape = kept ? x.shape.map((side, i) => (axes.has(i) ? 1 : side)) : keptAxes.map((i) => x.shape[i]);
  return floats(shape, result);
}

/** Where the values along some axes are, at 0 on all others. @param {number[]} shape @param {number[]} axes */
function positions(shape, axes) {
  let found = [0];
  for (const axis of axes) {
    const step = sizeOf(shape.slice(axis + 1));
    found = found.flatMap((at) => Array.from({ length: shape[axis] }, (_, i) => at + i * step));
  }
  return found;
}

/**
 * @param {Tensor} x @param {Attributes} attributes @param {number} opset
 * @param {boolean} [logarithm] of the probabilities
 * @returns {Tensor}
 */
export function softmax(x, attributes, opset, logarithm = false) {
  const rank = x.shape.length;
  const axis = fromStart(attributes.axis ?? (opset < 13 ? 1 : -1), rank);
  const length = opset < 13 ? sizeOf(x.shape.slice(axis)) : x.shape[axis];
  const step = opset < 13 ? 1 : sizeOf(x.shape.slice(axis + 1));
  const result = new Float32Array(x.data.length);
  for (let group = 0; group < x.data.length / length; group++) {
    const first = Math.floor(group / step) * step * length + (group % step);
    let largest = -Infinity, total = 0;
    for (let i = 0; i < length; i++) largest = Math.max(largest, x.data[first + i * step]);
    for (let i = 0; i < length; i++) total += Math.exp(x.data[first + i * step] - largest);
    for (let i = 0; i < length; i++) {
      const distance = x.data[first + i * step] - largest;
      result[first + i * step] = logarithm ? distance - Math.log(total) : Math.exp(distance) / total;
    }
  }
  return floats(x.shape, result);
}
