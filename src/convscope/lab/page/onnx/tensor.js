// Arrays with a shape, and ONNX's TensorProto.
import { ModelError, asBytes, asNumbers, asText, fields } from "./protobuf.js";

/**
 * @typedef {Float32Array | Float64Array | Uint8Array | Int8Array | Int32Array} Data
 * @typedef {"float32" | "float64" | "uint8" | "int8" | "int32" | "int64" | "bool"} Type int64 is kept in a Float64Array
 *
 * What a value was rounded from or to: `data` are 8-bit numbers, value = (data - zero) * scale per channel of `axis`.
 * @typedef {{data: Data, scale: Data, zero: Data | null, axis: number}} Quantized
 *
 * The exact integers behind a value: value = sums * scale[channel]; channels are the second axis.
 * @typedef {{sums: Int32Array | Float64Array, scale: Float32Array, most: number}} Sums, at most `most`
 *
 * @typedef {{type: Type, shape: number[], data: Data, quantized?: Quantized, sums?: Sums}} Tensor
 */

/** The number of values of a shape. @param {number[]} shape */
export const sizeOf = (shape) => shape.reduce((product, side) => product * side, 1);

/** @param {number[]} shape @param {Float32Array} data @returns {Tensor} */
export const floats = (shape, data) => ({ type: "float32", shape, data });

/** @type {Record<string, any>} */
const ARRAYS = {
  float32: Float32Array, float64: Float64Array, uint8: Uint8Array, int8: Int8Array, int32: Int32Array,
  int64: Float64Array, bool: Uint8Array,
}; // prettier-ignore

/** @param {Type} type @param {number[]} shape @returns {Tensor} zeros */
export const zeros = (type, shape) => ({ type, shape, data: new ARRAYS[type](sizeOf(shape)) });

/** ONNX's numbers of types, and the bytes of a value. @type {Record<number, [Type | "float16", number]>} */
const TYPES = {
  1: ["float32", 4], 2: ["uint8", 1], 3: ["int8", 1], 6: ["int32", 4], 7: ["int64", 8], 9: ["bool", 1],
  10: ["float16", 2], 11: ["float64", 8],
}; // prettier-ignore

/** The type with one of ONNX's numbers; 16-bit floats become float32. @param {number} code @returns {Type} */
export function typeOf(code) {
  const found = TYPES[code];
  if (!found) throw new ModelError(`numbers of ONNX type ${code} are not supported`);
  return found[0] === "float16" ? "float32" : found[0];
}

/** @param {number} half the bits of a 16-bit float */
export function fromHalf(half) {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/**
 * Reads a TensorProto.
 * @param {Uint8Array} bytes
 * @returns {Tensor & {name: string}}
 */
export function readTensor(bytes) {
  let name = "";
  let code = 0;
  /** @type {number[]} */
  const shape = [];
  /** @type {number[]} */
  const values = [];
  /** @type {Uint8Array | null} */
  let raw = null;
  for (const field of fields(bytes)) {
    const { number } = field;
    if (number === 1) shape.push(...asNumbers(field));
    else if (number === 2) code = field.value;
    else if (number === 8) name = asText(field);
    else if (number === 9) raw = asBytes(field);
    else if (number === 13 || (number === 14 && field.value)) {
      throw new ModelError(`the weights '${name}' are stored in another file: save the model as one file`);
    } else if (number === 4) for (const value of asNumbers(field, true)) values.push(value);
    else if (number === 5 || number === 7) for (const value of asNumbers(field)) values.push(value);
  }
  const type = typeOf(code);
  const size = sizeOf(shape);
  if (!Number.isSafeInteger(size) || shape.some((side) => side < 0)) {
    throw new ModelError(`the file is damaged: the weights '${name}' have the shape ${shape}`);
  }
  const data = raw ? readRaw(raw, code, size, name) : readValues(values, type, code, size, name);
  return { name, type, shape, data };
}

/** @param {Uint8Array} raw @param {number} code @param {number} size @param {string} name @returns {Data} */
function readRaw(raw, code, size, name) {
  const [kind, width] = TYPES[code];
  if (raw.length !== size * width) throw sizeError(name, size, raw.length / width);
  const copy = raw.slice().buffer;
  if (kind === "int64") return Float64Array.from(new BigInt64Array(copy), Number);
  if (kind === "float16") return Float32Array.from(new Uint16Array(copy), fromHalf);
  return new ARRAYS[kind](copy);
}

/**
 * @param {number[]} values @param {Type} type @param {number} code @param {number} size @param {string} name
 * @returns {Data}
 */
function readValues(values, type, code, size, name) {
  if (values.length !== size) throw sizeError(name, size, values.length);
  return ARRAYS[type].from(TYPES[code][0] === "float16" ? values.map(fromHalf) : values);
}

/** @param {string} name @param {number} expected @param {number} found */
function sizeError(name, expected, found) {
  return new ModelError(`the file is damaged: expected ${expected} numbers in '${name}', got ${found}`);
}
