// Dense layers: ONNX Gemm and MatMul.
import { ModelError } from "../onnx/protobuf.js";
import { floats, sizeOf } from "../onnx/tensor.js";
import { multiply } from "./dot.js";
import { integerSums } from "./quantize.js";

/** @typedef {import("../onnx/tensor.js").Tensor} Tensor */

/** (rows, columns) -> (columns, rows). @param {Tensor} matrix @returns {Tensor} */
function transposed({ type, shape, data }) {
  const [rows, columns] = shape;
  const result = data.slice();
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) result[c * rows + r] = data[r * columns + c];
  return { type, shape: [columns, rows], data: result };
}

/** Transposed weights by the weights, so that each is transposed once. @type {WeakMap<object, Tensor>} */
const cache = new WeakMap();

/** @param {Tensor} matrix @returns {Tensor} */
function transposedOnce(matrix) {
  const found = cache.get(matrix.data) ?? transposed(matrix);
  cache.set(matrix.data, found);
  return found;
}

/**
 * alpha * A * B + beta * C.
 * @param {Tensor[]} inputs A (n, k), B (k, units), perhaps C
 * @param {import("../onnx/model.js").Attributes} attributes
 * @returns {Tensor} (n, units)
 */
export function gemm(inputs, attributes) {
  const [first, second, third] = inputs;
  if (first.shape.length !== 2 || second.shape.length !== 2) throw new ModelError("Gemm expects two matrices");
  const x = attributes.transA ? transposed(first) : first;
  const weight = attributes.transB ? second : transposedOnce(second);
  const [n, k] = x.shape;
  const units = weight.shape[0];
  if (weight.shape[1] !== k) {
    throw new ModelError(`a dense layer expects ${weight.shape[1]} inputs, got ${k}`);
  }
  const { alpha = 1, beta = 1 } = attributes;
  const plain = attributes.transB && alpha === 1 && beta === 1 && (!third || third.shape.length === 1);
  const exact = plain && integerSums(inputs, [n, units], (data, rows, bias, result) => rowwise(data, rows, bias, result));
  if (exact) return exact;
  const result = new Float32Array(n * units);
  const isBias = alpha === 1 && beta === 1 && third && third.shape.length === 1 && third.data.length === units;
  rowwise(x.data, weight.data, isBias ? third.data : null, result);
  if (third && !isBias) addScaled(result, third, [n, units], alpha, beta);
  else if (alpha !== 1) result.forEach((value, i) => (result[i] = alpha * value));
  return floats([n, units], result);

  /** @param {any} data @param {any} rows @param {any} bias @param {any} out */
  function rowwise(data, rows, bias, out) {
    for (let i = 0; i < n; i++) {
      multiply(rows, data.subarray(i * k, (i + 1) * k), k, out, bias, units, 1, i * units);
    }
  }
}

/**
 * @param {Float32Array} result @param {Tensor} third @param {number[]} shape @param {number} alpha
 * @param {number} beta
 */
function addScaled(result, third, [n, units], alpha, beta) {
  const columns = third.shape.at(-1) ?? 1;
  const rows = third.data.length / columns;
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < units; j++) {
      const from = (rows > 1 ? i * columns : 0) + (columns > 1 ? j : 0);
      result[i * units + j] = alpha * result[i * units + j] + beta * third.data[from];
    }
  }
}

/** @param {Tensor[]} inputs (..., n, k) and (k, units) @returns {Tensor} (..., n, units) */
export function matMul([x, weight]) {
  const k = x.shape.at(-1) ?? 1;
  if (weight.shape.length !== 2 || weight.shape[0] !== k) {
    throw new ModelError(`MatMul of shapes (${x.shape}) and (${weight.shape}) is not supported`);
  }
  const units = weight.shape[1];
  const result = new Float32Array(sizeOf(x.shape) / k * units);
  const rows = transposedOnce(weight).data;
  for (let i = 0; i * k < x.data.length; i++) {
    multiply(rows, x.data.subarray(i * k, (i + 1) * k), k, result, null, units, 1, i * units);
  }
  return floats([...x.shape.slice(0, -1), units], result);
}
