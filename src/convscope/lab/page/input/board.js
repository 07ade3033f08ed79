// Where the user draws, or sees the opened image, or its numbers.
import { make, paint } from "../views/dom.js";
import { LabPixels } from "./pixels.js";

/** @typedef {import("../images/pixels.js").Pixels} Pixels */

const SIDE = 112;

/** Fires "drawn" when the drawing changed. */
export class LabBoard extends HTMLElement {
  canvas = make("canvas", { width: SIDE, height: SIDE, role: "img", "aria-label": "Drawing board" });
  grid = new LabPixels();
  light = false;
  isImage = false;
  /** @type {number[] | null} where the stroke is */
  last = null;

  connectedCallback() {
    this.replaceChildren(this.canvas, this.grid);
    this.grid.hidden = true;
    this.clear();
    let drawing = false;
    this.canvas.addEventListener("pointerdown", (event) => {
      drawing = true;
      this.canvas.setPointerCapture(event.pointerId);
      if (this.isImage) this.clear();
      this.stroke(event, true);
    });
    this.canvas.addEventListener("pointermove", (event) => drawing && this.stroke(event, false));
    for (const name of ["pointerup", "pointercancel"]) this.canvas.addEventListener(name, () => (drawing = false));
  }

  /** @returns {CanvasRenderingContext2D} */
  get context() {
    const context = this.canvas.getContext("2d", { willReadFrequently: true });
    if (!context) throw new Error("this browser offers no canvas");
    return context;
  }

  /** @param {boolean} [light] whether the paper is white */
  clear(light = this.light) {
    this.light = light;
    this.isImage = false;
    [this.canvas.width, this.canvas.height] = [SIDE, SIDE];
    this.context.fillStyle = light ? "#fff" : "#000";
    this.context.fillRect(0, 0, SIDE, SIDE);
  }

  /** @param {PointerEvent} event @param {boolean} first */
  stroke(event, first) {
    const { context } = this;
    const box = context.canvas.getBoundingClientRect();
    const at = (/** @type {PointerEvent} */ { clientX, clientY }) => [
      ((clientX - box.left) / box.width) * SIDE,
      ((clientY - box.top) / box.height) * SIDE,
    ];
    Object.assign(context, { lineWidth: 8.5, lineCap: "round", lineJoin: "round", strokeStyle: this.light ? "#000" : "#fff" });
    context.beginPath();
    if (first || !this.last) this.last = at(event);
    context.moveTo(this.last[0], this.last[1]);
    const events = event.getCoalescedEvents?.() ?? [];
    for (const one of events.length ? events : [event]) {
      this.last = at(one);
      context.lineTo(this.last[0], this.last[1]);
    }
    context.stroke();
    this.dispatchEvent(new Event("drawn"));
  }

  /** The drawing, gray. @returns {Pixels} */
  get pixels() {
    const { data } = this.context.getImageData(0, 0, SIDE, SIDE);
    const gray = new Uint8Array(SIDE * SIDE);
    for (let i = 0; i < gray.length; i++) gray[i] = data[4 * i];
    return { height: SIDE, width: SIDE, channels: 1, data: gray };
  }

  /** Shows an image; drawing clears it. @param {Pixels} pixels */
  show(pixels) {
    this.isImage = true;
    paint(this.canvas, pixels);
  }

  /** Shows numbers instead of the board. @param {Pixels | null} pixels null shows the board again
   * @param {(pixels: Pixels) => void} [changed] gets the pixels after each edit */
  edit(pixels, changed = () => {}) {
    this.canvas.hidden = pixels !== null;
    this.grid.hidden = pixels === null;
    if (pixels) this.grid.edit(pixels, changed);
  }
}
