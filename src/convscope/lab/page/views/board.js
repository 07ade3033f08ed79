// Where the user draws, or sees the opened image; or edits each pixel as a number (article, A1).
import { make, paint } from "./dom.js";

/** @typedef {import("../images/pixels.js").Pixels} Pixels */

const SIDE = 112;

/** Fires "drawn" when the drawing changed. */
export class LabBoard extends HTMLElement {
  canvas = make("canvas", { width: SIDE, height: SIDE, role: "img", "aria-label": "Drawing board" });
  grid = make("div", { className: "grid", hidden: true });
  light = false;
  isImage = false;
  /** @type {number[] | null} where the stroke is */
  last = null;

  connectedCallback() {
    this.replaceChildren(this.canvas, this.grid);
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
    return { height: SIDE, width: SIDE, channels: 1, data: Uint8Array.from({ length: SIDE * SIDE }, (_, i) => data[4 * i]) };
  }

  /** Shows an image; drawing clears it. @param {Pixels} pixels */
  show(pixels) {
    this.isImage = true;
    paint(this.canvas, pixels);
  }

  /** Shows a table of numbers instead of the board; `changed` gets the pixels after each edit.
   * @param {Pixels | null} pixels null shows the board again @param {(pixels: Pixels) => void} [changed] */
  edit(pixels, changed = () => {}) {
    this.canvas.hidden = pixels !== null;
    this.grid.hidden = pixels === null;
    if (!pixels) return;
    const { height, width, channels, data } = pixels;
    const edited = { ...pixels, data: data.slice() };
    const table = make("table", { "aria-label": "Pixels, 0 to 255" });
    for (let row = 0; row < height; row++) {
      const line = make("tr");
      for (let column = 0; column < width; column++) {
        const at = (row * width + column) * channels;
        const input = make("input", { inputMode: "numeric", value: String(data[at]), "aria-label": `row ${row}, column ${column}` });
        shade(input, data[at]);
        input.addEventListener("change", () => {
          const value = Math.min(Math.max(Math.round(Number(input.value)) || 0, 0), 255);
          input.value = String(value);
          shade(input, value);
          edited.data.fill(value, at, at + Math.min(channels, 3));
          changed(edited);
        });
        line.append(make("td", {}, input));
      }
      table.append(line);
    }
    table.addEventListener("keydown", (event) => moveFocus(event, width));
    this.grid.replaceChildren(table);
  }
}

/** @param {HTMLInputElement} input @param {number} value */
function shade(input, value) {
  input.style.background = `rgb(${value}, ${value}, ${value})`;
  input.style.color = value > 127 ? "#000" : "#fff";
}

/** Arrow keys move between numbers. @param {KeyboardEvent} event @param {number} width of the table */
function moveFocus(event, width) {
  const step = { ArrowUp: -width, ArrowDown: width, ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step || !(event.currentTarget instanceof HTMLElement)) return;
  const inputs = [...event.currentTarget.querySelectorAll("input")];
  const at = inputs.findIndex((input) => input === event.target);
  inputs[at + step]?.focus();
  event.preventDefault();
}
