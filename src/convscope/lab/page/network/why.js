// Which regions of an image speak for a class: the twin of convscope.evaluation.heat_maps.
import { backward, logitsOf } from "../backprop/trainer.js";
import { ModelError } from "../onnx/protobuf.js";
import { coverWithPatches } from "./patches.js";

/**
 * @typedef {import("../onnx/model.js").Node} Node
 * @typedef {{height: number, width: number, data: Float32Array}} Heat
 * @typedef {{kind: string, layer: string, heats: Heat[]}} ClassMaps
 */

const QUANTIZERS = /^(Q|Deq)uantizeLinear$/;
const COPIES = /^(Identity|Dropout|Flatten|Reshape|Transpose|Squeeze|Unsqueeze|Cast|QuantizeLinear|DequantizeLinear)$/;
const GLOBAL = /^(GlobalAveragePool|GlobalMaxPool|Reduce.+)$/;

/** How much each position of the last feature maps adds to the logits of some classes: the sum over the channels of
 * activation times gradient.
 * @param {import("./session.js").Session} session after an answer @param {number[]} targets @returns {ClassMaps} */
export function classMaps({ plan, values, stages }, targets) {
  const logits = logitsOf(plan);
  const nodes = plan.nodes.map((node) => (QUANTIZERS.test(node.operator) ? { ...node, operator: "Identity" } : node));
  /** @type {string[]} */
  const after = [];
  let name = logits;
  let at;
  for (;;) {
    at = nodes.findIndex((node) => node.outputs[0] === name);
    const node = plan.nodes[at];
    const shape = values.get(name)?.shape ?? [];
    if (!node) throw new ModelError("this network has no feature maps");
    const isOne = shape.length < 4 || (shape[2] * shape[3] === 1 && node.operator !== "Add"); // of no use as a map
    if (!isOne && !COPIES.test(node.operator) && !GLOBAL.test(node.operator) && !/\.negate$/.test(name)) break;
    if (!COPIES.test(node.operator)) after.push(node.operator);
    [name] = node.inputs;
  }
  const { shape: [, channels, height, width], data } = /** @type {import("../onnx/tensor.js").Tensor} */ (values.get(name)); // prettier-ignore
  const head = { ...plan, nodes: nodes.slice(at + 1) };
  const heats = targets.map((target) => {
    const start = new Float64Array(values.get(logits)?.data.length ?? 0);
    start[target] = 1;
    const slopes = backward(head, values, logits, start).get(name) ?? [];
    const heat = new Float64Array(height * width);
    for (let i = 0; i < channels * heat.length; i++) heat[i % heat.length] += data[i] * slopes[i];
    return { height, width, data: Float32Array.from(heat) };
  });
  const isExact = after.filter((operator) => !GLOBAL.test(operator)).length === 1;
  const isMean = after.some((operator) => /Average|Mean/.test(operator));
  const kind = !isExact ? "HiResCAM" : isMean ? "class activation map" : "contributions";
  return { kind, layer: stages.find((stage) => stage.value === name)?.name ?? plan.nodes[at].name, heats };
}

/** How much logits drop if a patch in the color of the padding covers a part of the image, place after place.
 * @param {import("./session.js").Session} session after an answer @param {number[]} targets
 * @param {number} from the first place @param {number} milliseconds that it may take
 * @returns {number[][]} for each place the drops of the targets */
export function occlude(session, targets, from, milliseconds) {
  const { pixels: { height, width, channels, data } } = /** @type {import("./session.js").Prepared} */ (session.prepared); // prettier-ignore
  const { size, rows, columns } = coverWithPatches(height, width);
  const end = performance.now() + milliseconds;
  const logits = logitsOf(session.plan);
  const of = (/** @type {typeof session.values} */ values) => targets.map((target) => values.get(logits)?.data[target] ?? NaN);
  const whole = of(session.values);
  const found = [];
  for (let at = from; at < rows.length * columns.length && (at === from || performance.now() < end); at++) {
    const covered = data.slice();
    const top = rows[Math.floor(at / columns.length)], left = columns[at % columns.length];
    for (let i = 0; i < size * size * channels; i++) {
      const row = top + Math.floor(i / (size * channels)), column = left + (Math.floor(i / channels) % size);
      covered[(row * width + column) * channels + (i % channels)] = session.preprocessing.fill[i % channels];
    }
    found.push(of(session.compute(covered)).map((logit, i) => whole[i] - logit));
  }
  return found;
}
