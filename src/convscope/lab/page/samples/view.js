// Images of the network's data set: samples to open, those that make a channel fire most, and the nearest ones.
import { fromBase64 } from "../input/input.js";
import { byId, make, short } from "../views/dom.js";
import { imageRow } from "./images.js";

/**
 * @typedef {{name: string, label: number, file: string}} Sample file: PNG of the network's size, in Base64
 * @typedef {{samples: Sample[], note: string}} Samples
 * @typedef {import("../network/survey.js").Found} Found
 */

const MOST = 6;
const CHUNK_MS = 40; // of the worker, which then looks for a new image
const IDLE_MS = 700; // without an answer, before it does

export class LabSamples extends HTMLElement {
  /** @type {Sample[]} */
  samples = [];
  surveyed = 0;
  answers = 0;
  quietSince = 0;
  isOpened = false;
  /** @type {Sample | null} the one whose answer comes next */
  next = null;
  /** @type {{labels: number[], features: number} | null} of the training images, once their features are loaded */
  training = null;
  /** @type {import("../lab.js").Choice | null} */
  choice = null;
  verdict = make("p", { "aria-live": "polite" });
  fires = make("div");
  near = make("div", { "aria-live": "polite" });

  /** @param {import("../lab.js").Lab} lab @param {import("../input/input.js").Input} input
   * @param {Samples | null} inside the page; null if the server has them */
  constructor(lab, input, inside) {
    super();
    this.lab = lab;
    this.input = input;
    this.inside = inside;
    this.hidden = true;
    this.className = "card";
  }

  /** The first network is that of the samples. */
  opened() {
    this.hidden = true;
    this.samples = [];
    if (!this.isOpened) this.lab.attempt(() => this.load());
    this.isOpened = true;
  }

  async load() {
    const { samples, note } = /** @type {Samples} */ (this.inside ?? (await (await fetch("samples.json")).json()));
    this.hidden = false;
    const title = make("h2", {}, "Images of the data set");
    if (note) return this.replaceChildren(title, make("p", { className: "hint" }, `${note[0].toUpperCase()}${note.slice(1)}.`));
    this.samples = samples;
    const strip = imageRow(samples.map((sample) => this.shown(sample)), (i) => this.lab.attempt(() => this.choose(samples[i]))); // prettier-ignore
    const button = make("button", { type: "button" }, `Nearest ${this.inside ? "of these images" : "training images"}`);
    button.addEventListener("click", () => this.lab.attempt(() => this.startNearest(button)));
    this.replaceChildren(title, strip, this.verdict, this.fires, button, this.near);
    if (this.answers < 2) await this.choose(samples[0]); // instead of an example, unless another image was opened
    await this.survey(samples);
  }

  /** @param {Sample} sample */
  shown({ name, label, file }) {
    const caption = this.nameOf(label);
    return { src: `data:image/png;base64,${file}`, caption, name: `${caption}, ${name}` };
  }

  /** @param {number} label */
  nameOf(label) {
    return this.lab.description?.classes[label] ?? "";
  }

  /** @param {Sample} sample */
  async choose(sample) {
    this.next = sample;
    await this.input.openImage(fromBase64(sample.file), "classifyPrepared");
  }

  /** @param {import("../network/session.js").Answer} answer */
  answered({ probabilities }) {
    this.quietSince = performance.now();
    this.answers++;
    const best = probabilities.indexOf(Math.max(...probabilities));
    const { next } = this;
    this.next = null;
    const text = next && `${next.name}: its class is ${this.nameOf(next.label)}; the answer is ${next.label === best ? "right" : "wrong"}.`;
    this.verdict.textContent = text ?? "";
    if (this.training || this.near.firstChild) this.lab.attempt(() => this.showNearest());
  }

  /** Lets the worker compute all samples, while it has nothing else to do. @param {Sample[]} samples */
  async survey(samples) {
    while (this.surveyed < samples.length && samples === this.samples) {
      const from = this.surveyed;
      while (performance.now() - this.quietSince < IDLE_MS) await new Promise((resolve) => setTimeout(resolve, IDLE_MS / 4));
      const count = Math.max(1, Math.round(CHUNK_MS / (this.lab.answer?.milliseconds ?? CHUNK_MS)));
      const files = samples.slice(from, from + count).map(({ file }) => fromBase64(file));
      await this.lab.ask("survey", { files, from });
      this.surveyed = from + files.length;
    }
    this.dataset.done = "";
    await this.showStrongest();
  }

  /** @param {import("../lab.js").Choice} choice */
  async cellChosen(choice) {
    this.choice = choice;
    await this.lab.attempt(() => this.showStrongest());
  }

  /** The samples that make the chosen channel fire most. */
  async showStrongest() {
    const { choice, surveyed, samples } = this;
    if (!choice || !samples.length) return;
    const { stage, cell } = choice;
    const name = `${stage.shape.length > 1 ? "map" : "unit"} ${cell[0]} of ${stage.name}`;
    /** @type {Found[]} */
    const found = await this.lab.ask("strongest", { value: stage.value, channel: cell[0], count: MOST });
    if (choice !== this.choice || samples !== this.samples) return;
    const [, height = 1, width = 1] = stage.shape;
    const row = imageRow(found.map(({ index, score, at }) => ({
      ...this.shown(samples[index]),
      caption: short(Number(score.toPrecision(3))),
      ...(height * width > 1 ? { mark: /** @type {[number, number]} */ ([((at % width) + 0.5) / width, (Math.floor(at / width) + 0.5) / height]) } : {}),
    })), (i) => this.lab.attempt(() => this.choose(samples[found[i].index]))); // prettier-ignore
    this.fires.replaceChildren(make("h3", {}, `Largest in ${name}, of ${surveyed} test images`), row);
  }

  /** @param {HTMLButtonElement} button */
  async startNearest(button) {
    button.remove();
    if (!this.inside) {
      this.near.replaceChildren(make("p", { className: "hint" }, "Computing the features of the training images …"));
      const about = await (await fetch("training.json")).json();
      const buffer = await (await fetch("training.f16")).arrayBuffer();
      await this.lab.ask("loadFeatures", { buffer, width: about.features });
      this.training = about;
    }
    await this.showNearest();
  }

  /** The images with the most similar features. */
  async showNearest() {
    const { training, samples, lab } = this;
    if (!samples.length || (!training && !this.inside)) return;
    const { answer } = lab;
    /** @type {Found[]} */
    const found = await lab.ask("nearest", { count: MOST });
    if (answer !== lab.answer) return;
    const count = training ? training.labels.length : this.surveyed;
    const images = found.map(({ index, score }) => {
      const label = training ? training.labels[index] : samples[index].label;
      const src = training ? `training/${index}.png` : this.shown(samples[index]).src;
      const caption = `${this.nameOf(label)} ${score.toFixed(3)}`;
      return { src, caption, name: `${this.nameOf(label)}, distance ${score.toFixed(3)}` };
    });
    const title = `Nearest of ${count.toLocaleString("en")} ${training ? "training" : "test"} images`;
    const hint = "The number is the cosine distance of the features, the classifier's input: 0 is the same direction.";
    this.near.replaceChildren(make("h3", {}, title), imageRow(images), make("p", { className: "hint" }, hint));
  }
}

/** Puts it after the answer. @param {LabSamples} element */
export function placeSamples(element) {
  byId("answer-title").parentElement?.after(element);
}
