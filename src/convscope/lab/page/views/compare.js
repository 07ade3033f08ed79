// Keeps an image, to show its maps and probabilities next to those of the images to come.
import { make, paint, percent } from "./dom.js";

export class LabCompare extends HTMLElement {
  button = make("button", { type: "button" });
  /** @type {import("../network/session.js").Answer | null} */
  answer = null;

  /** @param {import("../lab.js").Lab} lab */
  joined(lab) {
    this.lab = lab;
    this.button.addEventListener("click", () => lab.keep(this.answer ? null : lab.answer));
    this.kept(null);
  }

  opened() {
    this.lab?.keep(null);
  }

  /** @param {import("../network/session.js").Answer | null} answer */
  kept(answer) {
    this.answer = answer;
    this.button.textContent = answer ? "Stop comparing" : "Keep for comparing";
    if (!this.button.isConnected) this.append(this.button);
    this.querySelector("figure")?.remove();
    if (!answer || !this.lab?.description) return;
    const { probabilities, pixels } = answer;
    const best = probabilities.indexOf(Math.max(...probabilities));
    const text = `kept: ${this.lab.description.classes[best]} · ${percent(probabilities[best])}`;
    const canvas = make("canvas", { role: "img", "aria-label": text });
    paint(canvas, pixels);
    this.prepend(make("figure", { className: "row" }, canvas, make("figcaption", {}, text)));
    if (this.lab.answer) this.lab.answered(this.lab.answer);
  }
}
