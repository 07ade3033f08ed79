// The kernels of a convolution, or the weights of a dense layer's unit, as maps.
import { colorScale } from "./colors.js";
import { make } from "../views/dom.js";
import { LabMaps } from "./maps.js";

export class LabWeights extends HTMLElement {
  /** @param {import("../network/stages.js").Stage} stage @param {import("../lab.js").Lab} lab */
  open(stage, lab) {
    const isConv = stage.operator === "Conv";
    const title = isConv ? "Kernels" : "Weights";
    const details = make("details", {}, make("summary", {}, title));
    this.replaceChildren(details);
    details.addEventListener("toggle", () => {
      if (!details.open || details.childElementCount > 1) return;
      lab.attempt(async () => details.append(...this.build(stage, title, await lab.ask("weights", { value: stage.value }))));
    });
    return this;
  }

  /** @param {import("../network/stages.js").Stage} stage @param {string} title
   * @param {{shape: number[], data: Float32Array}} weights per map or unit: (outputs, maps, height, width) @returns {Node[]} */
  build(stage, title, { shape: [outputs, ...shape], data }) {
    const maps = new LabMaps();
    const what = stage.operator === "Conv" ? "kernel" : "map";
    if (stage.operator === "Conv" && shape[0] === 1) {
      maps.open(`${title} of ${stage.name}`, [outputs, shape[1], shape[2]], what);
      maps.draw(data, colorScale(data));
      return [maps];
    }
    const size = data.length / outputs;
    const unit = stage.operator === "Conv" ? "map" : "unit";
    const number = make("input", { type: "number", min: "0", max: String(outputs - 1), value: "0" });
    const show = () => {
      const index = Math.min(Math.max(Math.round(Number(number.value)) || 0, 0), outputs - 1);
      const own = data.subarray(index * size, (index + 1) * size);
      maps.draw(own, colorScale(own));
    };
    maps.open(`${title} of ${stage.name}`, shape, what);
    number.addEventListener("input", show);
    show();
    return [make("label", { className: "row facts" }, `${title} of ${unit}`, number, `of ${outputs}, for each input map`), maps];
  }
}
