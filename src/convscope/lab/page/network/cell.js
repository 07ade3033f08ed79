// The arithmetic of one value: its window, weights, products and sum, as the network computed it.
import { ModelError } from "../onnx/protobuf.js";
import { sizeOf } from "../onnx/tensor.js";
import { slide } from "../ops/window.js";
import { ACTIVATIONS, isSilu, valueOf } from "./activations.js";

/**
 * @typedef {import("../onnx/tensor.js").Tensor} Tensor
 * @typedef {import("../ops/execute.js").Plan} Plan
 * @typedef {{map: number, row: number, column: number, x: number, weight: number, inside: boolean}} Term a product of a
 *   window; outside the maps there is padding
 *
 * @typedef {object} Explanation
 * @property {string} operator
 * @property {number} value
 * @property {string} rule in words
 * @property {string} [source] the value that was read
 * @property {number[]} [window] height and width
 * @property {Term[]} [terms]
 * @property {number} [sum] of the products
 * @property {number} [bias]
 * @property {number} [argmax] index of the term that a maximum or minimum took
 * @property {number} [count] by which the sum of the terms is divided
 * @property {[string, number][]} [parts] named numbers of other formulas
 * @property {[string, number][]} [summands] that add up to the value
 * @property {[string, number, "/" | "x", number]} [operation] a formula, and the two numbers that give the value
 */

/** @typedef {{inputs: Tensor[], attributes: import("../onnx/model.js").Attributes, cell: number[], at: number,
 *   value: number, result: Tensor, rowsFirst: boolean,
 *   before: import("../onnx/model.js").Node | undefined, known: (name: string) => Tensor | undefined}} Place rowsFirst: whether
 *   the input is (n, height, width, channels); before: the node that made the input */

/**
 * @param {Plan} plan @param {Map<string, Tensor>} values @param {string} name of the value
 * @param {number[]} cell (channel, row, column) or (unit)
 * @returns {Explanation}
 */
export function explainCell(plan, values, name, cell) {
  const node = plan.nodes.find((one) => one.outputs[0] === name);
  const result = values.get(name);
  if (!node || !result) throw new ModelError(`there is no value '${name}'`);
  const shape = result.shape.slice(1);
  const full = [...cell, ...shape.slice(cell.length).map(() => 0)];
  const at = full.reduce((sum, index, i) => sum * shape[i] + index, 0);
  const known = (/** @type {string} */ one) => values.get(one) ?? plan.constants.get(one);
  const inputs = node.inputs.map((input) => /** @type {Tensor} */ (known(input)));
  const before = plan.nodes.find((one) => one.outputs[0] === node.inputs[0]);
  const rowsFirst = before?.operator === "Transpose" && String(before.attributes.perm) === "0,2,3,1";
  const place = { inputs, attributes: node.attributes, cell: full, at, value: result.data[at], result, rowsFirst, before, known };
  const explain = isSilu(plan, node) ? ACTIVATIONS.Silu : (EXPLAINERS[node.operator] ?? ACTIVATIONS[node.operator] ?? other);
  const negated = node.operator === "Neg" && minPool(plan, values, node.inputs[0], place);
  const found = negated || explain(place);
  return { operator: node.operator, value: place.value, source: node.inputs[0], ...found };
}

/** @type {Record<string, (place: Place) => Omit<Explanation, "operator" | "value">>} */
const EXPLAINERS = {
  Conv: convolution,
  Gemm: dense,
  MatMul: dense,
  MaxPool: (place) => pooling(place, "the largest value of the window"),
  AveragePool: (place) => pooling(place, "the mean of the window"),
  GlobalAveragePool: (place) => wholeMap(place, "the mean of the whole map"),
  GlobalMaxPool: (place) => wholeMap(place, "the largest value of the whole map"),
  BatchNormalization: normalization,
  Softmax: softmaxTerms,
  Flatten: flattened,
  Reshape: flattened,
  Sub: scaledPixel,
  Add: (place) => ({
    rule: "the sum of both branches",
    summands: [["first branch", valueOf(place, 0)], ["second branch", valueOf(place, 1)]],
  }), // prettier-ignore
  Mul: (place) => ({ rule: "the product of both branches", operation: ["first x second", valueOf(place, 0), "x", valueOf(place, 1)] }),
};

/** @param {Place} place */
function other({ inputs, at, result }) {
  const same = inputs[0]?.data.length === result.data.length;
  /** @type {[string, number][]} */
  const parts = same ? [["input", inputs[0].data[at]]] : [];
  return { rule: "a function of the input", parts };
}

/** @param {Place} place @returns {Omit<Explanation, "operator" | "value">} */
function scaledPixel({ inputs, at, cell, before, known }) {
  const scaled = inputs[0].data[at];
  const mean = inputs[1].data[inputs[1].data.length > 1 ? cell[0] : 0];
  const [pixels, scale] = (before?.operator === "Mul" ? before.inputs : []).map(known);
  const factor = scale?.data[scale.data.length > 1 ? cell[0] : 0];
  /** @type {[string, number][]} */
  const parts = pixels && factor !== undefined ? [["pixel", pixels.data[at]], ["scale", factor]] : [];
  return { rule: "pixel x scale - mean", parts, summands: [["pixel x scale", scaled], ["minus mean", -mean]] };
}

/** The terms of a window. @param {Place} place @param {number[]} size @param {number[]} maps to read
 * @param {(map: number, i: number, j: number) => number} weight */
function windowTerms({ inputs, attributes, cell }, size, maps, weight) {
  const [x] = inputs;
  const { stride, dilation, begin, input } = slide(x.shape, size, attributes);
  /** @type {Term[]} */
  const terms = [];
  for (const map of maps) {
    for (let i = 0; i < size[0]; i++) {
      for (let j = 0; j < size[1]; j++) {
        const row = cell[1] * stride[0] - begin[0] + i * dilation[0];
        const column = cell[2] * stride[1] - begin[1] + j * dilation[1];
        const inside = row >= 0 && row < input[0] && column >= 0 && column < input[1];
        const value = inside ? x.data[(map * input[0] + row) * input[1] + column] : 0;
        terms.push({ map, row, column, x: value, weight: weight(map, i, j), inside });
      }
    }
  }
  return terms;
}

/** @param {Place} place */
function convolution(place) {
  const [x, weight, bias] = place.inputs;
  const [filters, depth, ...window] = weight.shape;
  const group = place.attributes.group ?? 1;
  const first = Math.floor(place.cell[0] / (filters / group)) * depth;
  const maps = Array.from({ length: depth }, (_, k) => first + k);
  const at = (/** @type {number} */ map, /** @type {number} */ i, /** @type {number} */ j) =>
    weight.data[((place.cell[0] * depth + map - first) * window[0] + i) * window[1] + j];
  const terms = windowTerms(place, window, maps, at);
  const sum = terms.reduce((total, term) => total + term.x * term.weight, 0);
  const rule = x.quantized ? "the sum of all products, plus the bias; in 8-bit integers" : "the sum of all products, plus the bias";
  return { rule, window, terms, sum, bias: bias ? bias.data[place.cell[0]] : 0 };
}

/** @param {Place} place */
function dense({ inputs, attributes, at }) {
  const [x, weight, bias] = inputs;
  const k = x.data.length;
  const units = weight.data.length / k;
  const terms = Array.from(x.data, (value, i) => ({
    map: i, row: 0, column: 0, x: value, weight: weight.data[attributes.transB ? at * k + i : i * units + at], inside: true,
  })); // prettier-ignore
  const sum = terms.reduce((total, term) => total + term.x * term.weight, 0);
  return { rule: "the sum of all products, plus the bias", terms, sum, bias: bias ? bias.data[at] : 0 };
}

/** @param {Place} place @param {string} rule */
function pooling(place, rule) {
  const window = place.attributes.kernel_shape;
  const terms = windowTerms(place, window, [place.cell[0]], () => 1);
  const argmax = terms.findIndex((term) => term.inside && term.x === place.value);
  const inside = terms.filter((term) => term.inside).length;
  return { rule, window, terms, ...(rule.includes("mean") ? { count: place.attributes.count_include_pad ? terms.length : inside } : { argmax }) };
}

/** A minimum is written as the negative of the maximum of negatives. @param {Plan} plan @param {Map<string, Tensor>} values
 * @param {string} name @param {Place} place */
function minPool(plan, values, name, place) {
  const node = plan.nodes.find((one) => one.outputs[0] === name);
  if (node?.operator !== "MaxPool") return null;
  const before = plan.nodes.find((one) => one.outputs[0] === node.inputs[0]);
  const input = values.get(before?.operator === "Neg" ? before.inputs[0] : "");
  if (!input) return null;
  const found = pooling({ ...place, inputs: [input], attributes: node.attributes }, "the smallest value of the window");
  return { ...found, source: before?.inputs[0] };
}

/** @param {Place} place @param {string} rule */
function wholeMap({ inputs, cell, value }, rule) {
  const [x] = inputs;
  const window = x.shape.slice(2);
  const cells = sizeOf(window);
  const terms = Array.from(x.data.subarray(cell[0] * cells, (cell[0] + 1) * cells), (one, i) => ({
    map: cell[0], row: Math.floor(i / window[1]), column: i % window[1], x: one, weight: 1, inside: true,
  })); // prettier-ignore
  const argmax = terms.findIndex((term) => term.x === value);
  return { rule, window, terms, ...(rule.includes("mean") ? { count: cells } : { argmax }) };
}

/** @param {Place} place @returns {Omit<Explanation, "operator" | "value">} */
function normalization({ inputs, attributes, cell, at }) {
  const [x, scale, bias, mean, variance] = inputs;
  const [channel] = cell;
  const epsilon = attributes.epsilon ?? 1e-5;
  const normalized = (x.data[at] - mean.data[channel]) / Math.sqrt(variance.data[channel] + epsilon);
  return {
    rule: "(input - mean) / sqrt(variance + epsilon) x scale + shift",
    parts: [
      ["input", x.data[at]], ["mean", mean.data[channel]], ["variance", variance.data[channel]], ["epsilon", epsilon],
      ["normalized", normalized], ["scale", scale.data[channel]],
    ],
    summands: [["normalized x scale", normalized * scale.data[channel]], ["shift", bias.data[channel]]],
  }; // prettier-ignore
}

/** @param {Place} place @returns {Omit<Explanation, "operator" | "value">} */
function softmaxTerms({ inputs, at, before, known }) {
  const logits = Array.from(inputs[0].data);
  const largest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - largest));
  const [source, factor] = (before?.name === "calibrate" ? before.inputs : []).map(known);
  const [distance, exponent] = ["calibrate.distance", "calibrate.exponent"].map(known);
  /** @type {[string, number][]} */
  const calibration = [];
  if (source && factor && distance && exponent) {
    calibration.push(["largest logit - logit", distance.data[at]], ["to the power of", exponent.data[0]]);
  } else if (source && factor) calibration.push(["logit", source.data[at]]);
  if (factor) calibration.push(["times (calibration)", factor.data[0]]);
  return {
    rule: "e^(input - largest input), divided by the sum of these powers over all classes",
    parts: [...calibration, ["input", logits[at]], ["largest input", largest]],
    operation: ["power / sum of powers", powers[at], "/", powers.reduce((a, b) => a + b, 0)],
  };
}

/** @param {Place} place @returns {Omit<Explanation, "operator" | "value">} */
function flattened({ inputs, at, rowsFirst }) {
  const [x] = inputs;
  const shape = x.shape.slice(1);
  if (shape.length !== 3) return { rule: "the same number, in another shape" };
  const index = [];
  for (let i = 2, rest = at; i >= 0; i--) {
    index.unshift(rest % shape[i]);
    rest = Math.floor(rest / shape[i]);
  }
  const [a, b, c] = index;
  const [row, column, map] = rowsFirst ? [a, b, c] : [b, c, a];
  return { rule: "the same number, now an entry of a list", parts: [["map", map], ["row", row], ["column", column]] };
}
