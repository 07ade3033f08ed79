// An opened model: its description, answers to images, and the arithmetic of its cells. Knows no browser.
import { preprocess } from "../images/preprocess.js";
import { unlikeNotes } from "../images/typical.js";
import { isIntact, parseModel } from "../onnx/model.js";
import { ModelError } from "../onnx/protobuf.js";
import { zeros } from "../onnx/tensor.js";
import { planModel, runPlan } from "../ops/execute.js";
import { Trainer } from "../backprop/trainer.js";
import { explainCell } from "./cell.js";
import { assumeRecord, readRecord } from "./record.js";
import { findStages, weightsOf } from "./stages.js";

/**
 * @typedef {import("../onnx/tensor.js").Tensor} Tensor
 * @typedef {import("../images/preprocess.js").Preprocessing} Preprocessing
 * @typedef {import("./stages.js").Stage} Stage
 *
 * @typedef {object} Description
 * @property {string[]} classes
 * @property {Preprocessing} preprocessing
 * @property {Stage[]} stages
 * @property {string} architecture empty for a model of another program
 * @property {string} precision
 * @property {{name: string, file: string}[]} samples image files in Base64
 * @property {string} note what was assumed about a model of another program; else empty
 *
 * @typedef {object} Answer
 * @property {"answered" | "unsure" | "unlike"} status
 * @property {number[]} probabilities
 * @property {string[]} notes
 * @property {import("../images/preprocess.js").Step[]} steps
 * @property {import("../images/pixels.js").Pixels} pixels what the network sees
 * @property {Record<string, Float32Array>} values of the stages
 * @property {number} milliseconds that the network took
 * @property {Channel[]} off the channels that are switched off
 * @property {number[]} [before] the probabilities with all channels on, if some are off
 *
 * @typedef {import("../ops/execute.js").Channel} Channel a map or unit of a stage
 * @typedef {Pick<Answer, "pixels" | "notes" | "steps">} Prepared an image of the network's size
 */

const SUPPORTED_FORMAT = 1;

/** Opens a model file. Throws ModelError.
 * @param {Uint8Array} bytes @param {string} [record] JSON that describes a model of another program */
export async function openModel(bytes, record) {
  const model = parseModel(bytes);
  if (!(await isIntact(bytes, model))) {
    throw new ModelError("the checksum is wrong: the file is damaged, or was changed by another program");
  }
  return new Session(planModel(model), record);
}

export class Session {
  /** @type {Prepared | null} the newest image */
  prepared = null;

  /** @param {import("../ops/execute.js").Plan} plan @param {string} [record] */
  constructor(plan, record = plan.model.metadata.get("convscope.record")) {
    this.plan = plan;
    this.hasRecord = record !== undefined;
    const text = plan.model.metadata.get("convscope");
    this.metadata = text === undefined ? null : readMetadata(text);
    this.foreign = this.metadata ? null : record === undefined ? assumeRecord(plan.model.input.shape) : readRecord(record);
    /** @type {Preprocessing} */
    this.preprocessing = this.metadata?.preprocessing ?? this.foreign?.preprocessing;
    const { height, width, channels } = this.preprocessing;
    this.trainer = new Trainer(plan);
    this.values = this.compute(new Uint8Array(height * width * channels));
    this.stages = findStages(plan, this.values);
    this.output = this.findOutput();
  }

  /** @returns {Description} */
  describe() {
    const count = this.values.get(this.output)?.data.length ?? 0;
    const classes = this.metadata?.classes ?? this.foreign?.classes ?? Array.from({ length: count }, (_, i) => `class ${i}`);
    if (classes.length !== count) throw new ModelError(`expected ${classes.length} probabilities, got ${count}`);
    return {
      classes,
      preprocessing: this.preprocessing,
      stages: this.stages,
      architecture: this.metadata?.architecture ?? "",
      precision: this.metadata?.precision ?? "",
      samples: (this.metadata?.golden ?? []).map((/** @type {any} */ { name, file }) => ({ name, file })),
      note: this.metadata || this.hasRecord ? "" : "This file does not say how images are prepared, nor its classes: pixels are scaled to 0..1. Open the JSON file that describes it, if there is one.",
    };
  }

  /** The values of the graph for an image. @param {Uint8Array} pixels of the network's size
   * @param {import("../ops/execute.js").Plan} plan */
  compute(pixels, plan = this.plan) {
    const { height, width, channels, scale, mean } = this.preprocessing;
    if (plan.model.input.type === "uint8") {
      return runPlan(plan, { type: "uint8", shape: [1, height, width, channels], data: pixels });
    }
    const { channelsFirst, isReversed } = /** @type {import("./record.js").Foreign} */ (this.foreign);
    const shape = channelsFirst ? [1, channels, height, width] : [1, height, width, channels];
    const input = zeros("float32", shape);
    const cells = height * width;
    for (let i = 0; i < pixels.length; i++) {
      const pixel = Math.floor(i / channels), channel = isReversed ? channels - 1 - (i % channels) : i % channels;
      const to = channelsFirst ? channel * cells + pixel : pixel * channels + channel;
      input.data[to] = pixels[i] * scale[channel] - mean[channel];
    }
    return runPlan(plan, input);
  }

  /** @param {import("../images/pixels.js").Decoded} decoded */
  classify(decoded) {
    const { pixels, notes, steps } = preprocess(this.preprocessing, decoded);
    const { typical } = this.preprocessing;
    return this.answer({ pixels, steps, notes: typical ? [...notes, ...unlikeNotes(typical, pixels)] : notes });
  }

  /** @param {Prepared} prepared @returns {Answer} */
  answer({ pixels, notes, steps }) {
    const { off = [] } = this.plan;
    this.prepared = { pixels, notes, steps };
    const start = performance.now();
    this.values = this.compute(pixels.data);
    const milliseconds = performance.now() - start;
    const probabilities = this.probabilities();
    const before = off.length ? this.probabilities(this.compute(pixels.data, { ...this.plan, off: [] })) : undefined;
    const values = Object.fromEntries(
      this.stages.map(({ value }) => [value, new Float32Array(this.values.get(value)?.data ?? [])]),
    );
    return { status: this.status(probabilities), probabilities, notes, steps, pixels, values, milliseconds, off, before };
  }

  /** Sets a channel to 0 from now on, or no longer. @param {Channel} channel @returns {Answer} to the newest image */
  switchChannel({ value, channel }) {
    const { off = [] } = this.plan;
    const others = off.filter((one) => one.value !== value || one.channel !== channel);
    this.plan.off = others.length < off.length ? others : [...others, { value, channel }];
    return this.answerAgain();
  }

  /** The answer to the same image, for other weights. */
  answerAgain() {
    if (!this.prepared) throw new ModelError("open an image first");
    return this.answer(this.prepared);
  }

  /** @param {string} value of a stage @param {number[]} cell (channel, row, column) or (unit) */
  explain(value, cell) {
    return explainCell(this.plan, this.values, value, cell);
  }

  /** @param {string} value of a stage with weights */
  weights(value) {
    return weightsOf(this.plan, this.values, value);
  }

  /** The name of the class probabilities, or of the logits of another program's model. */
  findOutput() {
    const { outputs } = this.plan.model;
    const wanted = this.foreign?.output || "probabilities";
    return outputs.find((name) => name === wanted) ?? outputs[outputs.length - 1];
  }

  probabilities(values = this.values) {
    const output = Array.from(values.get(this.output)?.data ?? []);
    const sum = output.reduce((a, b) => a + b, 0);
    if (!this.foreign?.isLogits && output.every((value) => value >= 0) && Math.abs(sum - 1) < 1e-3) return output;
    const largest = Math.max(...output);
    const powers = output.map((value) => Math.exp(value - largest));
    const total = powers.reduce((a, b) => a + b, 0);
    return powers.map((power) => power / total);
  }

  /** @param {number[]} probabilities @returns {Answer["status"]} */
  status(probabilities) {
    const limits = this.metadata?.rejection ?? {};
    const score = this.values.get("ood_score")?.data[0];
    if (limits.max_ood_score != null && score !== undefined && score > limits.max_ood_score) return "unlike";
    return Math.max(...probabilities) < (limits.min_probability ?? 0) ? "unsure" : "answered";
  }
}

/** @param {string} text @returns {any} */
function readMetadata(text) {
  let metadata;
  try {
    metadata = JSON.parse(text);
  } catch {
    throw new ModelError("the file is damaged: its metadata are no JSON");
  }
  if (metadata.format !== SUPPORTED_FORMAT) {
    throw new ModelError(`expected format ${SUPPORTED_FORMAT} of convscope's model files, got ${metadata.format}`);
  }
  return metadata;
}
