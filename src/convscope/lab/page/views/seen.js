// The steps from the image to what the network sees, each with its name.
import { make, paint } from "./dom.js";

export class LabSeen extends HTMLElement {
  /** @param {import("../network/session.js").Answer} answer */
  answered({ steps, pixels, notes }) {
    const shown = [...steps.slice(0, -1), { name: "network input", pixels }];
    const box = make("div", { className: "steps" });
    for (const { name, pixels: step } of shown) {
      const canvas = make("canvas", { role: "img", "aria-label": `${name}, ${step.width} by ${step.height} pixels` });
      paint(canvas, step);
      box.append(make("figure", {}, canvas, make("figcaption", {}, `${name} ${step.width}x${step.height}`)));
    }
    const list = make("ul", {}, ...notes.map((note) => make("li", {}, note)));
    this.replaceChildren(box, ...(notes.length ? [list] : []));
  }
}
