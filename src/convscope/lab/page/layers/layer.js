// A layer: its maps, those of the image that is kept for comparing, and its weights.
import { colorScale } from "./colors.js";
import { make, short, write } from "../views/dom.js";
import { LabMaps } from "./maps.js";
import { LabWeights } from "./weights.js";

/** @typedef {import("../network/stages.js").Stage} Stage */

/** Fires "cell" with {stage, cell} as its detail. */
export class LabLayer extends HTMLElement {
  /** @type {Stage | null} */
  stage = null;
  /** @type {Float32Array} */
  values = new Float32Array();
  /** @type {Float32Array | null} of the kept image */
  kept = null;
  isStale = false;
  isOnScreen = false;
  maps = new LabMaps();
  /** @type {LabMaps | null} */
  keptMaps = null;
  pair = make("div", { className: "pair" }, this.maps);
  range = make("span", { className: "facts" });

  /** @param {Stage} stage @param {import("../lab.js").Lab} lab */
  open(stage, lab) {
    this.stage = stage;
    const { shape, name } = stage;
    const text = shape.length === 1 ? `${shape[0]} values` : `${shape[0]} ${shape[0] === 1 ? "map" : "maps"} of ${shape.slice(1).join("x")}`;
    this.maps.open(`${name}, ${text}`, shape);
    this.replaceChildren(
      make("div", { className: "row spread" }, make("h3", {}, name), this.range),
      make("p", { className: "facts" }, factsOf(stage, text)),
      this.pair,
    );
    if (stage.weights) this.append(new LabWeights().open(stage, lab));
    this.maps.addEventListener("pick", (event) => {
      const cell = /** @type {CustomEvent} */ (event).detail;
      const detail = { stage, cell: this.maps.isVector ? cell.slice(0, 1) : cell, mark: this.maps.mark };
      this.dispatchEvent(new CustomEvent("cell", { bubbles: true, detail }));
    });
  }

  /** Takes values that are drawn later. @param {Float32Array} values */
  update(values) {
    this.values = this.maps.values = values;
    this.isStale = true;
  }

  draw() {
    const { values } = this;
    this.isStale = false;
    const scale = colorScale(values, this.kept);
    this.maps.draw(values, scale);
    if (this.kept) this.keptMaps?.draw(this.kept, scale);
    write(this.range, `${short(scale.low)} to ${short(scale.high)}`);
  }

  /** Shows the maps of a kept image next to the current ones. @param {Float32Array | null} values */
  keep(values) {
    if (!this.stage || values === this.kept) return;
    this.kept = values;
    this.classList.toggle("compares", values !== null);
    this.keptMaps = values && new LabMaps();
    this.keptMaps?.open(`${this.stage.name}, kept image`, this.stage.shape);
    const both = () => [captioned("current image", this.maps), captioned("kept image", /** @type {LabMaps} */ (this.keptMaps))];
    this.pair.replaceChildren(...(values ? both() : [this.maps]));
    this.maps.arrange();
    this.keptMaps?.arrange();
    this.draw();
  }
}

/** @param {string} text @param {LabMaps} maps */
const captioned = (text, maps) => make("div", {}, make("p", { className: "facts" }, text), maps);

/** @param {Stage} stage @param {string} shape in words */
function factsOf({ summary, parameters, macs }, shape) {
  const parts = [summary, shape];
  if (parameters) parts.push(`${parameters.toLocaleString("en")} parameters`);
  if (macs) parts.push(`${macs.toLocaleString("en")} multiply-adds`);
  return parts.join(" · ");
}
