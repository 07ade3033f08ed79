// All layers of the network, with their maps.
import { LabLayer } from "./layer.js";

export class LabLayers extends HTMLElement {
  /** @type {LabLayer[]} */
  layers = [];

  /** @param {import("../lab.js").Lab} lab */
  joined(lab) {
    this.addEventListener("cell", (event) => lab.cellChosen(/** @type {CustomEvent} */ (event).detail));
  }

  /** @param {import("../network/session.js").Description} description */
  opened({ stages }) {
    this.layers = stages.map((stage) => {
      const layer = new LabLayer();
      layer.open(stage);
      return layer;
    });
    this.replaceChildren(...this.layers);
  }

  /** @param {import("../network/session.js").Answer} answer */
  answered({ values }) {
    for (const layer of this.layers) if (layer.stage) layer.draw(values[layer.stage.value]);
  }
}
