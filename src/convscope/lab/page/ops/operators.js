// Every operator that the page runs. To add one, add an entry.
import { ModelError } from "../onnx/protobuf.js";
import { floats, typeOf, zeros } from "../onnx/tensor.js";
import { conv } from "./convolution.js";
import { gemm, matMul } from "./dense.js";
import { batchNormalization, each, erf, gelu, layerNormalization, pairwise, sigmoid } from "./elementwise.js";
import { globalPool, pool } from "./pooling.js";
import { dequantizeLinear, positiveSums, quantizeLinear } from "./quantize.js";
import { reduce, softmax } from "./reduce.js";
import { concat, flatten, gather, pad, reshape, slice, squeeze, transpose, unsqueeze } from "./shape.js";

/**
 * @typedef {import("../onnx/tensor.js").Tensor} Tensor
 * @typedef {import("../onnx/model.js").Attributes} Attributes
 * @typedef {(inputs: any[], attributes: Attributes, opset: number) => Tensor} Operator
 */

/** @param {(x: number, attributes: Attributes) => number} f @returns {Operator} */
const unary = (f) => ([x], attributes) => each(x, (value) => f(value, attributes)); // prettier-ignore

/** @param {(a: number, b: number) => number} f @returns {Operator} */
const binary = (f) => ([a, b]) => pairwise(a, b, f); // prettier-ignore

/** @param {(a: number, b: number) => number} f @returns {Operator} */
const folded = (f) => (inputs) => inputs.reduce((a, b) => pairwise(a, b, f)); // prettier-ignore

/** @param {string} name @returns {Operator} */
const reduction = (name) => (inputs, attributes) => reduce(name, inputs, attributes); // prettier-ignore

/** @type {Record<string, Operator>} */
export const OPERATORS = {
  Abs: unary(Math.abs),
  Add: binary((a, b) => a + b),
  AveragePool: ([x], attributes) => pool(x, attributes, true),
  BatchNormalization: batchNormalization,
  Cast: ([x], { to }) => cast(x, typeOf(to)),
  Clip: ([x, low, high], attributes) => {
    const from = low ? low.data[0] : (attributes.min ?? -Infinity);
    const to = high ? high.data[0] : (attributes.max ?? Infinity);
    return { ...each(x, (value) => Math.min(Math.max(value, from), to)), sums: from === 0 ? positiveSums(x, to) : undefined };
  },
  Concat: (inputs, attributes) => concat(inputs, attributes),
  Constant: (_, attributes) => constant(attributes),
  Conv: conv,
  DequantizeLinear: dequantizeLinear,
  Div: binary((a, b) => a / b),
  Dropout: ([x]) => x,
  Elu: unary((x, { alpha = 1 }) => (x < 0 ? alpha * Math.expm1(x) : x)),
  Erf: unary(erf),
  Exp: unary(Math.exp),
  Flatten: ([x], attributes) => flatten(x, attributes),
  Gather: ([x, indices], attributes) => gather(x, indices, attributes),
  Gelu: unary((x, { approximate }) => gelu(x, approximate === "tanh")),
  Gemm: gemm,
  GlobalAveragePool: ([x]) => globalPool(x, true),
  GlobalMaxPool: ([x]) => globalPool(x, false),
  HardSigmoid: unary((x, { alpha = 0.2, beta = 0.5 }) => Math.min(Math.max(alpha * x + beta, 0), 1)),
  HardSwish: unary((x) => x * Math.min(Math.max(x / 6 + 0.5, 0), 1)),
  Identity: ([x]) => x,
  LayerNormalization: layerNormalization,
  LeakyRelu: unary((x, { alpha = 0.01 }) => (x < 0 ? alpha * x : x)),
  Log: unary(Math.log),
  LogSoftmax: ([x], attributes, opset) => softmax(x, attributes, opset, true),
  MatMul: matMul,
  Max: folded(Math.max),
  MaxPool: ([x], attributes) => pool(x, attributes, false),
  Min: folded(Math.min),
  Mul: binary((a, b) => a * b),
  Neg: unary((x) => -x),
  PRelu: binary((x, slope) => (x < 0 ? slope * x : x)),
  Pad: pad,
  Pow: binary(Math.pow),
  QuantizeLinear: quantizeLinear,
  ReduceL2: reduction("ReduceL2"),
  ReduceLogSumExp: reduction("ReduceLogSumExp"),
  ReduceMax: reduction("ReduceMax"),
  ReduceMean: reduction("ReduceMean"),
  ReduceMin: reduction("ReduceMin"),
  ReduceSum: reduction("ReduceSum"),
  ReduceSumSquare: reduction("ReduceSumSquare"),
  Relu: ([x]) => ({ ...each(x, (value) => (value > 0 ? value : 0)), sums: positiveSums(x, Infinity) }),
  Reshape: ([x, shape], attributes) => reshape(x, shape, attributes),
  Shape: ([x]) => ({ type: "int64", shape: [x.shape.length], data: Float64Array.from(x.shape) }),
  Sigmoid: unary(sigmoid),
  Slice: slice,
  Softmax: ([x], attributes, opset) => softmax(x, attributes, opset),
  Softplus: unary((x) => Math.log1p(Math.exp(-Math.abs(x))) + Math.max(x, 0)),
  Sqrt: unary(Math.sqrt),
  Squeeze: ([x, axes], attributes) => squeeze(x, axes, attributes),
  Sub: binary((a, b) => a - b),
  Sum: folded((a, b) => a + b),
  Tanh: unary(Math.tanh),
  Transpose: ([x], attributes) => transpose(x, attributes),
  Unsqueeze: ([x, axes], attributes) => unsqueeze(x, axes, attributes),
};

/** @param {Tensor} x @param {import("../onnx/tensor.js").Type} type @returns {Tensor} */
function cast(x, type) {
  const result = zeros(type, x.shape);
  const whole = type.startsWith("int");
  for (let i = 0; i < x.data.length; i++) result.data[i] = whole ? Math.trunc(x.data[i]) : x.data[i];
  return result;
}

/** @param {Attributes} attributes @returns {Tensor} */
function constant({ value, value_float: number, value_floats: list, value_int: whole, value_ints: wholes }) {
  if (value) return value;
  if (number !== undefined || list) return floats(list ? [list.length] : [], Float32Array.from(list ?? [number]));
  if (whole === undefined && !wholes) throw new ModelError("a constant of a kind that is not supported");
  return { type: "int64", shape: wholes ? [wholes.length] : [], data: Float64Array.from(wholes ?? [whole]) };
}
