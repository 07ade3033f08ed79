// The arithmetic of the functions of one number. To add one, add an entry.
import { erf } from "../ops/elementwise.js";

/** @typedef {import("./cell.js").Place} Place @typedef {import("./cell.js").Explanation} Explanation */

/** A function of one number: in words, named steps, and perhaps the last step.
 * @param {string} rule @param {(x: number, place: Place) => Pick<Explanation, "parts" | "operation">} [steps]
 * @returns {(place: Place) => Omit<Explanation, "operator" | "value">} */
const activation = (rule, steps = () => ({})) => (place) => {
  const x = valueOf(place, 0), { parts = [], operation } = steps(x, place);
  return { rule, parts: [["input", x], ...parts], operation };
}; // prettier-ignore

/** @type {Record<string, (place: Place) => Omit<Explanation, "operator" | "value">>} */
export const ACTIVATIONS = {
  Clip: activation("min(max(low, input), high)", (_, { inputs, attributes: { min = -Infinity, max = Infinity } }) => ({
    parts: [["low", inputs[1]?.data[0] ?? min], ["high", inputs[2]?.data[0] ?? max]],
  })),
  Elu: activation("the input if it is above 0, else alpha x (e^input - 1)", (x, { attributes: { alpha = 1 } }) => ({
    parts: [["alpha", alpha]],
    operation: x < 0 ? ["alpha x (e^input - 1)", alpha, "x", Math.expm1(x)] : undefined,
  })),
  Gelu: activation("the input times the normal distribution function at it", (x, { attributes: { approximate } }) => {
    const inner = Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3), isTanh = approximate === "tanh";
    const share = (1 + (isTanh ? Math.tanh(inner) : erf(x * Math.SQRT1_2))) / 2;
    const name = isTanh ? "(1 + tanh(√(2/π) (input + 0.044715 input³))) / 2" : "(1 + erf(input / √2)) / 2";
    return { parts: [[name, share]], operation: ["product", x, "x", share] };
  }),
  HardSigmoid: activation("min(max(0, alpha x input + beta), 1)", (x, { attributes: { alpha = 0.2, beta = 0.5 } }) => ({
    parts: [["alpha", alpha], ["beta", beta], ["alpha x input + beta", alpha * x + beta]],
  })),
  HardSwish: activation("input x min(max(0, input / 6 + 0.5), 1)", (x) => {
    const gate = Math.min(Math.max(0, x / 6 + 0.5), 1);
    return { parts: [["input / 6 + 0.5, from 0 to 1", gate]], operation: ["product", x, "x", gate] };
  }),
  LeakyRelu: activation("the input if it is above 0, else slope x input", (x, { attributes: { alpha = 0.01 } }) => sloped(x, alpha)),
  PRelu: activation("the input if it is above 0, else slope x input", (x, place) => sloped(x, valueOf(place, 1))),
  Relu: activation("max(0, input)"),
  Sigmoid: activation("1 / (1 + e^-input)", (x) => ({ operation: ["1 / (1 + e^-input)", 1, "/", 1 + Math.exp(-x)] })),
  Silu: activation("the input times its sigmoid, 1 / (1 + e^-input)", (x) => ({ operation: ["input / (1 + e^-input)", x, "/", 1 + Math.exp(-x)] })),
  Softplus: activation("ln(1 + e^input)", (x) => ({ parts: [["1 + e^input", 1 + Math.exp(x)]] })),
  Tanh: activation("(1 - t) / (1 + t), with the sign of the input; t is e^(-2 |input|)", (x) => {
    const t = Math.exp(-2 * Math.abs(x));
    return { parts: [["t", t]], operation: ["quotient", -Math.sign(x) * Math.expm1(-2 * Math.abs(x)), "/", 1 + t] };
  }),
}; // prettier-ignore

/** @param {number} x @param {number} slope @returns {Pick<Explanation, "parts" | "operation">} */
const sloped = (x, slope) => ({ parts: [["slope", slope]], operation: x < 0 ? ["slope x input", slope, "x", x] : undefined });

/** Whether a node multiplies a value with its sigmoid. @param {import("../ops/execute.js").Plan} plan @param {import("../onnx/model.js").Node} node */
export function isSilu(plan, { operator, inputs: [first, gate] }) {
  const maker = plan.nodes.find((one) => one.outputs[0] === gate);
  return operator === "Mul" && maker?.operator === "Sigmoid" && maker.inputs[0] === first;
}

/** What an input has at the place; inputs may be numbers for each channel, or a single one. @param {Place} place @param {number} i */
export function valueOf({ inputs, at, cell, result }, i) {
  const { data } = inputs[i];
  return data[data.length === result.data.length ? at : data.length > 1 ? cell[0] : 0];
}
