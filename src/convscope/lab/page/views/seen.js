// The steps from the image to what the network sees, each with its name.
import { make, paint, write } from "./dom.js";

export class LabSeen extends HTMLElement {
  steps = make("div", { className: "steps" });
  notes = make("ul");

  joined() {
    this.append(this.steps, this.notes);
  }

  /** Keeps its canvases: new ones would take memory at each stroke. @param {import("../network/session.js").Answer} answer */
  answered({ steps, pixels, notes }) {
    const shown = [...steps.slice(0, -1), { name: "network input", pixels }];
    while (this.steps.children.length < shown.length) {
      this.steps.append(make("figure", {}, make("canvas", { role: "img" }), make("figcaption")));
    }
    [...this.steps.children].forEach((figure, i) => {
      if (!shown[i]) return figure.remove();
      const { name, pixels: step } = shown[i];
      const [canvas, caption] = figure.children;
      canvas.setAttribute("aria-label", `${name}, ${step.width} by ${step.height} pixels`);
      paint(/** @type {HTMLCanvasElement} */ (canvas), step);
      write(caption, `${name} ${step.width}x${step.height}`);
    });
    this.notes.hidden = !notes.length;
    this.notes.replaceChildren(...notes.map((note) => make("li", {}, note)));
  }
}
