// Which values of a graph are shown as layers, and what each costs.
import { sizeOf } from "../onnx/tensor.js";
import { isSilu } from "./activations.js";
import { findOrigin, originOf } from "./origin.js";

/**
 * @typedef {import("../ops/execute.js").Plan} Plan
 * @typedef {import("../onnx/model.js").Node} Node
 * @typedef {import("../onnx/tensor.js").Tensor} Tensor
 *
 * @typedef {object} Stage
 * @property {string} value its name in the graph
 * @property {string} name of the layer
 * @property {string} operator
 * @property {string} summary such as "3x3 convolution"
 * @property {number[]} shape (channels, height, width) or (units)
 * @property {number} parameters
 * @property {number} macs multiply-adds for an image
 * @property {boolean} weights whether it has kernels, or weights of a dense layer
 * @property {import("./origin.js").Origin} [origin] the maps that its input, or itself, is a list of
 */

const INPUT = "input.subtract"; // the scaled pixels, in files of convscope
const HIDDEN = new Set([
  "Cast", "Concat", "Constant", "DequantizeLinear", "Dropout", "Identity", "QuantizeLinear", "Shape", "Slice",
  "Squeeze", "Transpose", "Unsqueeze",
]); // prettier-ignore
const SUMMARIES = {
  Add: "sum of two branches", AveragePool: "average pooling", BatchNormalization: "batch normalization",
  Conv: "convolution", Flatten: "flatten", Gemm: "dense", GlobalAveragePool: "global average",
  GlobalMaxPool: "global maximum", MatMul: "dense", MaxPool: "max pooling", Neg: "min pooling", Relu: "ReLU",
  Reshape: "flatten", Softmax: "softmax", Gelu: "GELU", LeakyRelu: "leaky ReLU",
  Mul: "product of two branches", Clip: "limits", HardSwish: "hard swish", Sigmoid: "sigmoid", Tanh: "tanh",
}; // prettier-ignore

/**
 * @param {Plan} plan
 * @param {Map<string, Tensor>} values of any run
 * @returns {Stage[]}
 */
export function findStages(plan, values) {
  const names = new Set(plan.nodes.map((node) => node.name));
  const stages = plan.nodes.filter((node) => isShown(node, values.get(node.outputs[0]), names));
  return stages.map((node) => describe(node, plan, values));
}

/** @param {Node} node @param {Tensor | undefined} value @param {Set<string>} names of all nodes */
function isShown(node, value, names) {
  if (!value || value.type !== "float32" || value.shape.length < 2) return false;
  if (node.name === INPUT) return true;
  if (/^(ood|calibrate|input)\.|^(calibrate|ood_score)$/.test(node.name) || HIDDEN.has(node.operator)) return false;
  const helper = node.name.match(/^(.+)\.(transpose|negate|pool|gate|mean|max)$/);
  return !helper || !names.has(helper[1]) || helper[2] === "mean" || helper[2] === "max";
}

/** @param {Node} node @param {Plan} plan @param {Map<string, Tensor>} values @returns {Stage} */
function describe(node, plan, values) {
  const output = node.outputs[0];
  const { shape } = /** @type {Tensor} */ (values.get(output));
  const weights = node.inputs.map((name) => plan.constants.get(name)).filter((tensor) => tensor !== undefined);
  const counted = { Conv: 3, Gemm: 3, MatMul: 3, BatchNormalization: 2, PRelu: 1 }[node.operator] ?? 0;
  const isInput = node.name === INPUT;
  const window = node.operator === "Conv" ? weights[0]?.shape.slice(2) : node.attributes.kernel_shape;
  const text = isSilu(plan, node) ? "SiLU" : SUMMARIES[/** @type {keyof typeof SUMMARIES} */ (node.operator)] ?? node.operator;
  return {
    value: output,
    name: isInput ? "input" : node.name === "probabilities" ? "softmax" : node.name,
    operator: isInput ? "Input" : text === "flatten" ? "Flatten" : node.operator,
    summary: isInput ? "scaled pixels" : window ? `${window.join("x")} ${text}` : text,
    shape: shape.slice(1).filter((side, i) => i === 0 || shape.length === 4 || side > 1),
    parameters: weights.slice(0, counted).reduce((sum, tensor) => sum + tensor.data.length, 0),
    macs: macsOf(node.operator, shape, weights[0]),
    weights: weights.length > 0 && (node.operator === "Conv" || text === "dense"),
    origin: text === "flatten" || text === "dense" ? findOrigin(plan, values, node.inputs[0]) : undefined,
  };
}

/** @param {string} operator @param {number[]} shape @param {Tensor | undefined} weight */
function macsOf(operator, shape, weight) {
  if (!weight) return 0;
  if (operator === "Conv") return sizeOf(shape.slice(1)) * sizeOf(weight.shape.slice(1));
  return operator === "Gemm" || operator === "MatMul" ? weight.data.length : 0;
}

/**
 * The kernels of a convolution, or the weights of each unit of a dense layer as maps.
 * @param {Plan} plan @param {Map<string, Tensor>} values @param {string} value of the stage
 * @returns {{shape: number[], data: Float32Array}} (outputs, maps, height, width)
 */
export function weightsOf(plan, values, value) {
  const node = /** @type {Node} */ (plan.nodes.find((one) => one.outputs[0] === value));
  const weight = /** @type {Tensor} */ (plan.constants.get(node.inputs[1]));
  const { shape } = weight;
  if (node.operator === "Conv") return { shape: [...shape, 1].slice(0, 4), data: Float32Array.from(weight.data) };
  const [units, count] = node.attributes.transB ? shape : [shape[1], shape[0]];
  const origin = findOrigin(plan, values, node.inputs[0]);
  const maps = origin?.shape ?? [count, 1, 1];
  const data = new Float32Array(units * count);
  for (let unit = 0; unit < units; unit++) {
    for (let i = 0; i < count; i++) {
      const [map, row, column] = origin ? originOf(origin, i) : [i, 0, 0];
      const from = node.attributes.transB ? unit * count + i : i * units + unit;
      data[unit * count + (map * maps[1] + row) * maps[2] + column] = weight.data[from];
    }
  }
  return { shape: [units, ...maps], data };
}
