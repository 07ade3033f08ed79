// All layers of the network, with their maps. Those on the screen are drawn first.
import { entryOf, originOf } from "../network/origin.js";
import { LabLayer } from "./layer.js";

export class LabLayers extends HTMLElement {
  /** @type {LabLayer[]} */
  layers = [];
  /** @type {number | undefined} */
  waiting = undefined;
  screen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) /** @type {LabLayer} */ (target).isOnScreen = isIntersecting;
  });

  /** @param {import("../lab.js").Lab} lab */
  joined(lab) {
    this.lab = lab;
    this.addEventListener("cell", (event) => lab.cellChosen(/** @type {CustomEvent} */ (event).detail));
  }

  /** @param {import("../network/session.js").Description} description */
  opened({ stages }) {
    this.layers = stages.map((stage) => {
      const layer = new LabLayer();
      if (this.lab) layer.open(stage, this.lab);
      return layer;
    });
    this.replaceChildren(...this.layers);
    this.screen.disconnect();
    this.layers.forEach((layer) => this.screen.observe(layer));
    this.layers.forEach((layer) => layer.maps.arrange());
  }

  /** @param {import("../network/session.js").Answer} answer */
  answered({ values }) {
    for (const layer of this.layers) {
      if (layer.stage) layer.update(values[layer.stage.value]);
      if (layer.isOnScreen) layer.draw();
    }
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.drawNext());
  }

  /** Draws one layer that is not on the screen, and then the next. */
  drawNext() {
    const next = this.layers.find((layer) => layer.isStale);
    if (!next) return;
    next.draw();
    this.waiting = setTimeout(() => this.drawNext());
  }

  /** @param {import("../network/session.js").Answer | null} answer */
  kept(answer) {
    for (const layer of this.layers) if (layer.stage) layer.keep(answer && answer.values[layer.stage.value]);
  }

  /** Marks where an entry of a flattened list came from, or where a cell went to (article, A7).
   * @param {import("../lab.js").Choice} choice */
  cellChosen({ stage, cell }) {
    for (const { stage: other, maps } of this.layers) {
      if (!other) continue;
      if (other === stage) continue;
      maps.hideMark();
      if (stage.operator === "Flatten" && stage.origin?.value === other.value) {
        maps.point(/** @type {[number, number, number]} */ (originOf(stage.origin, cell[0])));
      }
      if (other.operator === "Flatten" && other.origin?.value === stage.value) maps.point([entryOf(other.origin, cell), 0, 0]);
    }
  }
}
