// What a user wrote down about a model of another program: docs/foreign-models.md.
import { ModelError } from "../onnx/protobuf.js";

/** @typedef {import("../images/preprocess.js").Preprocessing} Preprocessing */
/** @typedef {{classes?: string[], preprocessing: Preprocessing, channelsFirst: boolean, isReversed: boolean, output: string, isLogits: boolean}} Foreign */

const DEFAULTS = { fit: "crop", divide_by: 255, color_order: "RGB", layout: "NCHW", output: "" };

/** @param {string} text a JSON object @returns {Foreign} */
export function readRecord(text) {
  let record;
  try {
    record = { ...DEFAULTS, ...JSON.parse(text) };
  } catch {
    throw new ModelError("expected a JSON file that describes a model, got no JSON");
  }
  const { height, width, channels, fit, classes, mean, std } = record;
  const numbers = (/** @type {any} */ list) => Array.isArray(list) && list.length === channels && list.every(Number.isFinite);
  const problem = [
    [!Array.isArray(classes) || classes.length < 2, "classes"], [!(height > 0), "height"], [!(width > 0), "width"],
    [channels !== 1 && channels !== 3, "channels"], [!["crop", "letterbox", "stretch"].includes(fit), "fit"], [!numbers(mean), "mean"],
    [!numbers(std) || std.some((/** @type {number} */ one) => one <= 0), "std"], [!(record.divide_by > 0), "divide_by"],
    [!["logits", "probabilities"].includes(record.output_kind), "output_kind"],
  ].find(([wrong]) => wrong); // prettier-ignore
  if (problem) throw new ModelError(`the JSON file that describes the model lacks '${problem[1]}', or it is wrong: see docs/foreign-models.md`);
  const scale = std.map((/** @type {number} */ one) => 1 / (record.divide_by * one));
  const fill = mean.map(() => 0);
  return {
    classes: classes.map(String),
    preprocessing: { height, width, channels, fit, fill, polarity: "mixed", scale, mean: mean.map((/** @type {number} */ one, /** @type {number} */ i) => one / std[i]) },
    channelsFirst: record.layout === "NCHW",
    isReversed: record.color_order === "BGR",
    output: record.output,
    isLogits: record.output_kind === "logits",
  };
}

/** @param {(number | string)[]} shape */
function isChannelsFirst([, channels]) {
  return typeof channels === "number" && [1, 3, 4].includes(channels);
}

/** Without a record: pixels are scaled to 0..1. @param {(number | string)[]} shape of the input @returns {Foreign} */
export function assumeRecord(shape) {
  const channelsFirst = isChannelsFirst(shape);
  const [, ...sides] = shape.map((side) => (typeof side === "number" ? side : NaN));
  const [channels, height, width] = channelsFirst ? sides : [sides[2], sides[0], sides[1]];
  if (shape.length !== 4 || ![1, 3, 4].includes(channels) || !(height > 0) || !(width > 0)) {
    throw new ModelError(`expected an input of images with 1, 3 or 4 channels and a fixed size, got (${shape.join(", ")})`);
  }
  const each = (/** @type {number} */ value) => Array(channels).fill(value);
  /** @type {Preprocessing} */
  const preprocessing = { height, width, channels, fit: "letterbox", fill: each(0), polarity: "mixed", scale: each(1 / 255), mean: each(0) };
  return { preprocessing, channelsFirst, isReversed: false, output: "", isLogits: false };
}
