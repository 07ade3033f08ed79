// Why the network answers so: maps of the regions that speak for the answer and for the runner-up.
import { coverWithPatches, spreadDrops } from "../network/patches.js";
import { make, paint } from "../views/dom.js";

/** @typedef {import("../network/session.js").Answer} Answer @typedef {import("../network/why.js").Heat} Heat */

const PAUSE_MS = 250; // without a new image, before maps are computed
const CHUNK_MS = 40; // of the worker, which then looks for a new image
const FIRST_CHUNKS = 5; // after them, the pace tells how long the rest takes
const MAX_MS = 3000; // a longer rest of the occlusion maps waits for a click
const COLORS = [[0, 114, 178], [213, 94, 0]]; // against, for
const KINDS = {
  "class activation map": "what each position of the last maps adds to the score",
  contributions: "what each position of the last maps adds to the score",
  HiResCAM: "activation times gradient at each position of the last maps, added up over the maps; about what it adds to the score",
};

export class LabWhy extends HTMLElement {
  timer = 0;

  /** @param {import("../lab.js").Lab} lab */
  joined(lab) {
    this.lab = lab;
  }

  opened() {
    this.replaceChildren();
  }

  /** @param {Answer} answer */
  answered(answer) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.lab?.attempt(() => this.explain(answer)), PAUSE_MS);
  }

  /** @param {Answer} answer */
  async explain(answer) {
    const { lab } = this;
    if (!lab?.description || lab.answer !== answer) return;
    const { probabilities, pixels } = answer;
    const targets = probabilities.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a]).slice(0, 2); // prettier-ignore
    const names = targets.map((target) => lab.description?.classes[target] ?? "");
    const maps = await lab.ask("classMaps", { targets }).catch((error) => ({ kind: "", layer: error.message, heats: [] }));
    if (lab.answer !== answer) return;
    const kind = /** @type {keyof typeof KINDS} */ (maps.kind);
    const occlusions = names.map((name) => this.canvas(`Occlusion map of ${name}`, pixels));
    const rows = names.map((name, i) => {
      const box = make("div", { className: "steps" });
      if (kind) {
        const canvas = this.canvas(`${kind} of ${name}`, pixels);
        overlay(canvas, pixels, maps.heats[i]);
        box.append(make("figure", {}, canvas, make("figcaption", {}, kind)));
      }
      box.append(make("figure", {}, occlusions[i], make("figcaption", {}, "occlusion")));
      return make("div", {}, make("h3", {}, `For ${name}`), box);
    });
    const patches = coverWithPatches(pixels.height, pixels.width);
    const text = kind ? `${kind[0].toUpperCase()}${kind.slice(1)}: ${KINDS[kind]} (${maps.layer}). ` : `${maps.layer}. `;
    const hint = `${text}Occlusion: how much the score drops where a patch of ${patches.size}x${patches.size} covers the image. Orange is for the class, blue against it.`;
    this.replaceChildren(...rows, make("p", { className: "hint" }, hint));
    await this.occlude(answer, targets, occlusions);
  }

  /** Draws the maps place after place, until there is a new image.
   * @param {Answer} answer @param {number[]} targets @param {HTMLCanvasElement[]} canvases
   * @param {number[][]} drops of the places before @param {number} limit in milliseconds for the rest */
  async occlude(answer, targets, canvases, drops = [], limit = MAX_MS) {
    const { height, width } = answer.pixels;
    const patches = coverWithPatches(height, width);
    const count = patches.rows.length * patches.columns.length;
    for (let chunk = 1; drops.length < count; chunk++) {
      const start = performance.now();
      const found = await this.lab?.ask("occlude", { targets, from: drops.length, milliseconds: CHUNK_MS });
      if (this.lab?.answer !== answer) return;
      drops.push(...found);
      canvases.forEach((canvas, i) => {
        overlay(canvas, answer.pixels, spreadDrops(drops.map((drop) => drop[i]), patches, height, width)); // prettier-ignore
      });
      const rest = ((performance.now() - start) / found.length) * (count - drops.length);
      if (chunk !== FIRST_CHUNKS || rest < limit) continue;
      const button = make("button", { type: "button" }, "Finish the occlusion maps");
      button.addEventListener("click", () => {
        button.remove();
        this.lab?.attempt(() => this.occlude(answer, targets, canvases, drops, Infinity));
      });
      return this.append(button);
    }
    for (const canvas of canvases) canvas.dataset.done = "";
  }

  /** @param {string} name @param {import("../images/pixels.js").Pixels} pixels */
  canvas(name, pixels) {
    const canvas = make("canvas", { role: "img", "aria-label": name });
    paint(canvas, pixels);
    return canvas;
  }
}

/** Draws a pale image under the colors of a map. @param {HTMLCanvasElement} canvas
 * @param {import("../images/pixels.js").Pixels} pixels @param {Heat} heat */
function overlay(canvas, { height, width, channels, data }, heat) {
  const limit = heat.data.reduce((most, value) => Math.max(most, Math.abs(value) || 0), 0) || 1;
  const shown = new Uint8Array(height * width * 3);
  for (let i = 0; i < height * width; i++) {
    const row = Math.floor((Math.floor(i / width) * heat.height) / height);
    const value = (heat.data[row * heat.width + Math.floor(((i % width) * heat.width) / width)] || 0) / limit;
    let gray = 0;
    for (let c = 0; c < Math.min(channels, 3); c++) gray += data[i * channels + c] / Math.min(channels, 3);
    const opacity = 0.9 * Math.abs(value);
    const color = COLORS[value > 0 ? 1 : 0];
    for (let c = 0; c < 3; c++) shown[i * 3 + c] = (1 - opacity) * (0.3 * gray + 178) + opacity * color[c];
  }
  paint(canvas, { height, width, channels: 3, data: shown });
}
