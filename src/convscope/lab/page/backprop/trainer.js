// One step of learning by hand: the loss of an image, the gradient of any weight as a sum of terms, SGD with momentum.
import { ModelError } from "../onnx/protobuf.js";
import { without } from "../ops/execute.js";
import { slide } from "../ops/window.js";
import { GRADIENTS } from "./gradients.js";

/**
 * @typedef {import("../onnx/tensor.js").Tensor} Tensor
 * @typedef {import("../onnx/model.js").Node} Node
 *
 * @typedef {{name: string, layer: string, kind: string, shape: number[]}} Weights an array of weights of a layer
 *
 * @typedef {object} Loss
 * @property {number} loss -log of the probability, in nats, before calibration
 * @property {number} probability of the true class
 * @property {Weights[]} weights
 * @property {number[]} largest the index of the first array's weight with the largest gradient
 *
 * @typedef {{place: string, slope: number, x: number, product: number}} Term slope: gradient of the output at that place
 *
 * @typedef {object} WeightGradient
 * @property {number} value of the weight
 * @property {number} gradient of the loss, the sum of all terms
 * @property {number} velocity
 * @property {Term[]} terms the largest first
 */

const KINDS = { Conv: ["weight", "bias"], Gemm: ["weight", "bias"], MatMul: ["weight"], BatchNormalization: ["scale", "shift"] };

export class Trainer {
  /** @type {Map<string, Float64Array>} */
  velocities = new Map();
  /** @type {Map<string, Tensor>} weights before the first step */
  originals = new Map();

  /** @param {import("../ops/execute.js").Plan} plan */
  constructor(plan) {
    this.plan = plan;
    this.logits = logitsOf(plan);
    /** @type {{node: Node, input: number, name: string}[]} */
    this.arrays = plan.nodes.flatMap((node) =>
      (KINDS[/** @type {keyof typeof KINDS} */ (node.operator)] ?? []).flatMap((_, i) => {
        const name = node.inputs[i + 1];
        return plan.constants.get(name)?.type === "float32" ? [{ node, input: i + 1, name }] : [];
      }),
    );
  }

  /** Computes all gradients for an image. @param {Map<string, Tensor>} values @param {number} label @returns {Loss} */
  backpropagate(values, label) {
    this.values = values;
    const logits = Array.from(values.get(this.logits)?.data ?? []);
    const largest = Math.max(...logits);
    const powers = logits.map((logit) => Math.exp(logit - largest));
    const total = powers.reduce((a, b) => a + b, 0);
    const start = Float64Array.from(powers, (power, i) => power / total - (i === label ? 1 : 0));
    this.gradients = backward(this.plan, values, this.logits, start);
    const reached = this.arrays.filter(({ name }) => this.gradients?.has(name));
    const first = this.gradients.get(reached[0]?.name) ?? new Float64Array();
    return {
      loss: Math.log(total) + largest - logits[label],
      probability: powers[label] / total,
      weights: reached.map(({ node, input, name }) => ({
        name, layer: node.name, kind: kindOf(node, input), shape: this.tensor(name).shape,
      })),
      largest: indexOf(first.reduce((best, value, i) => (Math.abs(value) > Math.abs(first[best]) ? i : best), 0), this.tensor(reached[0]?.name).shape),
    }; // prettier-ignore
  }

  /** @param {string} name of an array @param {number[]} index @returns {WeightGradient} */
  weight(name, index) {
    const { shape, data } = this.tensor(name);
    const at = index.reduce((sum, one, i) => sum * shape[i] + one, 0);
    const terms = this.terms(name, index).sort((a, b) => Math.abs(b.product) - Math.abs(a.product));
    const gradient = this.gradients?.get(name)?.[at] ?? NaN;
    return { value: data[at], gradient, velocity: this.velocities.get(name)?.[at] ?? 0, terms };
  }

  /** velocity = momentum * velocity - rate * gradient; weight = weight + velocity.
   * @param {number} rate @param {number} momentum @param {{name: string, index: number[]} | null} one null: all weights */
  step(rate, momentum, one) {
    for (const { name } of this.arrays) {
      const gradient = this.gradients?.get(name);
      if (!gradient || (one && one.name !== name)) continue;
      const tensor = this.tensor(name);
      if (!this.originals.has(name)) this.originals.set(name, tensor);
      const velocity = this.velocities.get(name) ?? new Float64Array(gradient.length);
      this.velocities.set(name, velocity);
      const data = tensor.data.slice();
      const only = one ? one.index.reduce((sum, index, i) => sum * tensor.shape[i] + index, 0) : -1;
      for (let i = one ? only : 0; i < (one ? only + 1 : data.length); i++) {
        velocity[i] = momentum * velocity[i] - rate * gradient[i];
        data[i] += velocity[i];
      }
      this.plan.constants.set(name, { ...tensor, data });
    }
  }

  /** Gives all weights their first values. */
  reset() {
    for (const [name, tensor] of this.originals) this.plan.constants.set(name, tensor);
    this.originals.clear();
    this.velocities.clear();
  }

  /** @param {string} name @returns {Tensor} */
  tensor(name) {
    const found = this.plan.constants.get(name);
    if (!found) throw new ModelError("this network has no weights that a gradient reaches");
    return found;
  }

  /** The terms of a weight's gradient: one for each place that it is used at. @param {string} name @param {number[]} index */
  terms(name, index) {
    const found = this.arrays.find((one) => one.name === name);
    const g = this.gradients?.get(found?.node.outputs[0] ?? "");
    const x = this.values?.get(found?.node.inputs[0] ?? "");
    if (!found || !g || !x) throw new ModelError(`there are no weights '${name}'`);
    const { node, input } = found;
    /** @type {Term[]} */
    const terms = [];
    const add = (/** @type {string} */ place, /** @type {number} */ slope, /** @type {number} */ factor) =>
      terms.push({ place, slope, x: factor, product: slope * factor });
    if (node.operator === "Gemm" || node.operator === "MatMul") {
      const { transB, alpha = 1, beta = 1 } = node.attributes;
      const [unit, k] = input === 2 ? [index.at(-1) ?? 0, -1] : transB ? index : [index[1], index[0]];
      add(`unit ${unit}`, g[unit], k < 0 ? beta : alpha * x.data[k]);
      return terms;
    }
    const [height = 1, width = 1] = this.values?.get(node.outputs[0])?.shape.slice(2) ?? [];
    const factor = node.operator === "Conv" ? this.convFactor(node, x, index) : this.normFactor(node, x, index);
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const one = input === 2 ? 1 : factor(row, column);
        if (one !== null) add(`(${row}, ${column})`, g[(index[0] * height + row) * width + column], one);
      }
    }
    return terms;
  }

  /** The input that a weight meets at an output cell; null in the padding.
   * @param {Node} node @param {Tensor} x @param {number[]} index @returns {(row: number, column: number) => number | null} */
  convFactor(node, x, [filter, channel, i, j]) {
    const { shape } = this.tensor(node.inputs[1]);
    const { stride, dilation, begin, input } = slide(x.shape, shape.slice(2), node.attributes);
    const map = Math.floor(filter / (shape[0] / (node.attributes.group ?? 1))) * shape[1] + channel;
    return (row, column) => {
      const y = row * stride[0] - begin[0] + i * dilation[0], c = column * stride[1] - begin[1] + j * dilation[1];
      return y < 0 || y >= input[0] || c < 0 || c >= input[1] ? null : x.data[(map * input[0] + y) * input[1] + c];
    };
  }

  /** @param {Node} node @param {Tensor} x @param {number[]} index @returns {(row: number, column: number) => number} */
  normFactor({ inputs, attributes }, x, [channel]) {
    const [mean, variance] = inputs.slice(3).map((name) => this.tensor(name).data[channel]);
    const [height = 1, width = 1] = x.shape.slice(2);
    return (row, column) =>
      (x.data[(channel * height + row) * width + column] - mean) / Math.sqrt(variance + (attributes.epsilon ?? 1e-5));
  }
}

/** The name of the values before softmax. @param {import("../ops/execute.js").Plan} plan */
export function logitsOf({ model, nodes }) {
  if (model.outputs.includes("logits")) return "logits";
  const output = model.outputs[model.outputs.length - 1];
  const last = nodes.find((node) => node.outputs[0] === output);
  return last?.operator === "Softmax" ? last.inputs[0] : output;
}

/** Gradients of all values and weights, by name, from that of one value.
 * @param {import("../ops/execute.js").Plan} plan @param {Map<string, Tensor>} values @param {string} name
 * @param {Float64Array} start */
export function backward(plan, values, name, start) {
  const gradients = new Map([[name, start]]);
  for (const node of plan.nodes.toReversed()) {
    const g = gradients.get(node.outputs[0]);
    if (!g) continue;
    const off = plan.off?.filter(({ value }) => value === node.outputs[0]) ?? [];
    without(g, values.get(node.outputs[0])?.shape ?? [], off);
    if (!GRADIENTS[node.operator]) {
      const integers = /Linear$/.test(node.operator);
      throw new ModelError(integers ? "a network in 8-bit integers does not learn: open the float32 file" : `the page knows no gradient of ${node.operator}`);
    }
    const inputs = node.inputs.map((input) => /** @type {Tensor} */ (values.get(input) ?? plan.constants.get(input)));
    const result = /** @type {Tensor} */ (values.get(node.outputs[0]));
    GRADIENTS[node.operator]({ inputs, result, attributes: node.attributes, g }).forEach((found, i) => {
      const old = gradients.get(node.inputs[i]);
      if (found) gradients.set(node.inputs[i], old ? found.map((value, k) => value + old[k]) : found);
    });
  }
  return gradients;
}

/** @param {Node} node @param {number} input */
const kindOf = (node, input) => KINDS[/** @type {keyof typeof KINDS} */ (node.operator)][input - 1];

/** @param {number} at @param {number[]} shape */
function indexOf(at, shape) {
  return shape.reduceRight((/** @type {number[]} */ index, side) => {
    index.unshift(at % side);
    at = Math.floor(at / side);
    return index;
  }, []);
}
