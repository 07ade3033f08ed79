// Operators that move values without changing them.
import { ModelError } from "../onnx/protobuf.js";
import { sizeOf, zeros } from "../onnx/tensor.js";
import { axesOf, fromStart } from "./reduce.js";

/**
 * @typedef {import("../onnx/tensor.js").Tensor} Tensor
 * @typedef {import("../onnx/model.js").Attributes} Attributes
 */

/** The same values in another shape. @param {Tensor} x @param {number[]} shape @returns {Tensor} */
export function reshaped(x, shape) {
  if (sizeOf(shape) !== x.data.length) throw new ModelError(`the shape (${x.shape}) cannot become (${shape})`);
  return { ...x, shape, sums: undefined };
}

/** @param {Tensor} x @param {Tensor} wanted @param {Attributes} attributes */
export function reshape(x, wanted, attributes) {
  const sides = Array.from(wanted.data, (side, i) => (side === 0 && !attributes.allowzero ? x.shape[i] : side));
  const known = sides.filter((side) => side !== -1).reduce((a, b) => a * b, 1);
  return reshaped(x, sides.map((side) => (side === -1 ? x.data.length / known : side)));
}

/** @param {Tensor} x @param {Attributes} attributes */
export function flatten(x, { axis = 1 }) {
  const at = axis < 0 ? axis + x.shape.length : axis;
  return reshaped(x, [sizeOf(x.shape.slice(0, at)), sizeOf(x.shape.slice(at))]);
}

/** @param {Tensor} x @param {Tensor | undefined} input @param {Attributes} attributes */
export function squeeze(x, input, attributes) {
  const axes = axesOf(input, attributes)?.map((/** @type {number} */ axis) => fromStart(axis, x.shape.length));
  return reshaped(x, x.shape.filter((side, i) => (axes ? !axes.includes(i) : side !== 1)));
}

/** @param {Tensor} x @param {Tensor | undefined} input @param {Attributes} attributes */
export function unsqueeze(x, input, attributes) {
  const axes = axesOf(input, attributes) ?? [];
  const rank = x.shape.length + axes.length;
  const shape = [...x.shape];
  const places = axes.map((/** @type {number} */ axis) => fromStart(axis, rank)).sort((/** @type {number} */ a, /** @type {number} */ b) => a - b);
  for (const at of places) shape.splice(at, 0, 1);
  return reshaped(x, shape);
}

/** @param {Tensor} x @param {Attributes} attributes @returns {Tensor} */
export function transpose(x, { perm }) {
  const rank = x.shape.length;
  const order = perm ?? x.shape.map((_, i) => rank - 1 - i);
  const steps = order.map((/** @type {number} */ axis) => sizeOf(x.shape.slice(axis + 1)));
  const shape = order.map((/** @type {number} */ axis) => x.shape[axis]);
  const result = { ...zeros(x.type, shape), quantized: x.quantized };
  const moved = x.quantized && x.quantized.data.slice();
  const position = Array(rank).fill(0);
  for (let i = 0, from = 0; i < x.data.length; i++) {
    result.data[i] = x.data[from];
    if (moved && x.quantized) moved[i] = x.quantized.data[from];
    for (let axis = rank - 1; axis >= 0; axis--) {
      from += steps[axis];
      if (++position[axis] < shape[axis]) break;
      from -= steps[axis] * shape[axis];
      position[axis] = 0;
    }
  }
  if (moved && x.quantized) result.quantized = { ...x.quantized, data: moved };
  return result;
}

/** @param {Tensor[]} parts @param {Attributes} attributes @returns {Tensor} */
export function concat(parts, attributes) {
  const first = parts[0];
  const axis = fromStart(attributes.axis, first.shape.length);
  const shape = [...first.shape];
  shape[axis] = parts.reduce((total, part) => total + part.shape[axis], 0);
  const result = zeros(first.type, shape);
  const inner = sizeOf(shape.slice(axis + 1));
  const outer = sizeOf(shape.slice(0, axis));
  let at = 0;
  for (let i = 0; i < outer; i++) {
    for (const part of parts) {
      const length = part.shape[axis] * inner;
      result.data.set(part.data.subarray(i * length, (i + 1) * length), at);
      at += length;
    }
  }
  return result;
}

/** @param {Tensor} x @param {Tensor} indices @param {Attributes} attributes @returns {Tensor} */
export function gather(x, indices, attributes) {
  const axis = fromStart(attributes.axis ?? 0, x.shape.length);
  const inner = sizeOf(x.shape.slice(axis + 1));
  const side = x.shape[axis];
  const result = zeros(x.type, [...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)]);
  let at = 0;
  for (let outer = 0; outer < sizeOf(x.shape.slice(0, axis)); outer++) {
    for (const index of indices.data) {
      const from = (outer * side + fromStart(index, side)) * inner;
      result.data.set(x.data.subarray(from, from + inner), at);
      at += inner;
    }
  }
  return result;
}

/** @param {(Tensor | undefined)[]} inputs x, starts, ends, axes, steps @param {Attributes} attributes @returns {Tensor} */
export function slice([x, starts, ends, axes, steps], attributes) {
  if (!x) throw new ModelError("Slice without input");
  const list = (/** @type {Tensor | undefined} */ input, /** @type {string} */ name) =>
    input ? Array.from(input.data) : attributes[name];
  const begin = list(starts, "starts");
  const stop = list(ends, "ends");
  let result = x;
  (list(axes, "axes") ?? begin.map((/** @type {number} */ _, /** @type {number} */ i) => i)).forEach(
    (/** @type {number} */ axis, /** @type {number} */ i) => {
      const at = fromStart(axis, result.shape.length);
      const side = result.shape[at];
      const step = steps ? steps.data[i] : 1;
      const limit = (/** @type {number} */ p) => Math.min(Math.max(p < 0 ? p + side : p, step < 0 ? -1 : 0), step < 0 ? side - 1 : side);
      const indices = [];
      for (let p = limit(begin[i]); step > 0 ? p < limit(stop[i]) : p > limit(stop[i]); p += step) indices.push(p);
      const index = { type: /** @type {const} */ ("int64"), shape: [indices.length], data: Float64Array.from(indices) };
      result = gather(result, index, { axis: at });
    },
  );
  return result;
}

/** @param {(Tensor | undefined)[]} inputs x, pads, value, axes @param {Attributes} attributes @returns {Tensor} */
export function pad([x, pads, value, axes], attributes) {
  if (!x || axes || (attributes.mode ?? "constant") !== "constant") throw new ModelError("only padding with a constant is supported");
  const given = pads ? Array.from(pads.data) : attributes.pads;
  const rank = x.shape.length;
  const shape = x.shape.map((side, i) => side + given[i] + given[i + rank]);
  const result = zeros(x.type, shape);
  result.data.fill(value ? value.data[0] : (attributes.value ?? 0));
  const steps = shape.map((_, i) => sizeOf(shape.slice(i + 1)));
  for (let i = 0; i < x.data.length; i++) {
    let to = 0;
    for (let axis = rank - 1, rest = i; axis >= 0; axis--) {
      to += ((rest % x.shape[axis]) + given[axis]) * steps[axis];
      rest = Math.floor(rest / x.shape[axis]);
    }
    result.data[to] = x.data[i];
  }
  return result;
}
