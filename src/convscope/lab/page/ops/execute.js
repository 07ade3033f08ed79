// Runs a graph node by node, and keeps every value for the views.
import { ModelError } from "../onnx/protobuf.js";
import { OPERATORS } from "./operators.js";

/**
 * @typedef {import("../onnx/tensor.js").Tensor} Tensor
 * @typedef {import("../onnx/model.js").Model} Model
 * @typedef {import("../onnx/model.js").Node} Node
 *
 * @typedef {{value: string, channel: number}} Channel of a value (1, channels, ...)
 *
 * A graph that is ready to run.
 * @typedef {object} Plan
 * @property {Model} model
 * @property {Map<string, Tensor>} constants those of the file, and what depends on nothing else
 * @property {Channel[]} [off] channels that are set to 0
 * @property {Node[]} nodes that depend on the input, and on which an output depends
 */

/**
 * Checks the operators, and computes what does not depend on the input.
 * @param {Model} model
 * @returns {Plan}
 */
export function planModel(model) {
  const unknown = [...new Set(model.nodes.map((node) => node.operator))].filter((name) => !Object.hasOwn(OPERATORS, name));
  if (unknown.length) throw new ModelError(`the page does not know the operator ${unknown.join(", ")}`);
  const constants = new Map(model.constants);
  const nodes = needed(model).filter((node) => {
    if (!node.inputs.every((name) => !name || constants.has(name))) return true;
    constants.set(node.outputs[0], runNode(node, constants, model.opset));
    return false;
  });
  return { model, constants, nodes };
}

/** The nodes on which an output depends. @param {Model} model */
function needed({ nodes, outputs }) {
  const wanted = new Set(outputs);
  const kept = nodes.toReversed().filter((node) => {
    if (!node.outputs.some((name) => wanted.has(name))) return false;
    node.inputs.forEach((name) => wanted.add(name));
    return true;
  });
  const extra = kept.find((node) => node.outputs.slice(1).some((name) => wanted.has(name)));
  if (extra) throw new ModelError(`the node '${extra.name}' has several outputs, which is not supported`);
  return kept.toReversed();
}

/**
 * @param {Plan} plan
 * @param {Tensor} input
 * @returns {Map<string, Tensor>} every value that depends on the input, and the input, by name
 */
export function runPlan(plan, input) {
  const values = new Map([[plan.model.input.name, input]]);
  const known = { get: (/** @type {string} */ name) => values.get(name) ?? plan.constants.get(name) };
  for (const node of plan.nodes) {
    const [name] = node.outputs;
    const value = runNode(node, known, plan.model.opset);
    const off = plan.off?.filter((one) => one.value === name) ?? [];
    values.set(name, off.length ? { type: value.type, shape: value.shape, data: without(value.data.slice(), value.shape, off) } : value);
  }
  return values;
}

/** Sets channels of a value, or of its gradient, to 0.
 * @template {import("../onnx/tensor.js").Data} D
 * @param {D} data @param {number[]} shape @param {Channel[]} off @returns {D} */
export function without(data, shape, off) {
  const size = data.length / shape[1];
  for (const { channel } of off) data.fill(0, channel * size, (channel + 1) * size);
  return data;
}

/**
 * @param {Node} node @param {{get: (name: string) => Tensor | undefined}} known @param {number} opset
 * @returns {Tensor}
 */
function runNode(node, known, opset) {
  const inputs = node.inputs.map((name) => (name ? known.get(name) : undefined));
  try {
    return OPERATORS[node.operator](inputs, node.attributes, opset);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ModelError(`the node '${node.name}' (${node.operator}) cannot be computed: ${reason}`);
  }
}
