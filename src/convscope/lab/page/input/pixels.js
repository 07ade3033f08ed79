// The network's pixels as numbers that can be changed (article, A1): a channel at a time, and a window of a large image.
import { make } from "../views/dom.js";

/** @typedef {import("../images/pixels.js").Pixels} Pixels */

const WINDOW = 28; // rows and columns
const CHANNELS = ["Red", "Green", "Blue", "Alpha"];

export class LabPixels extends HTMLElement {
  channel = 0;
  origin = [0, 0];

  /** @param {Pixels} pixels @param {(pixels: Pixels) => void} changed gets the pixels after each edit */
  edit(pixels, changed) {
    this.pixels = { ...pixels, data: pixels.data.slice() };
    this.changed = changed;
    this.channel = 0;
    this.table = make("table");
    this.table.addEventListener("keydown", (event) => this.press(event));
    const tools = make("div", { className: "row facts" });
    if (pixels.channels > 1) {
      const select = make("select", { "aria-label": "Channel" }, ...CHANNELS.slice(0, pixels.channels).map((name) => make("option", {}, name)));
      select.addEventListener("change", () => {
        this.channel = select.selectedIndex;
        this.show();
      });
      tools.append(select);
    }
    this.starts = ["row", "column"].map((name, axis) => {
      const start = make("input", { type: "number", min: "0", max: String(this.most(axis)), "aria-label": `First ${name}` });
      start.addEventListener("input", () => this.move(axis, Number(start.value)));
      if (this.most(axis)) tools.append(make("label", {}, `from ${name} `, start));
      return start;
    });
    this.replaceChildren(tools, make("div", { className: "grid" }, this.table));
    this.origin = [0, 1].map((axis) => Math.floor(this.most(axis) / 2));
    this.show();
  }

  /** The last row or column at which the window can start. @param {number} axis */
  most(axis) {
    const { height = 0, width = 0 } = this.pixels ?? {};
    return Math.max((axis ? width : height) - WINDOW, 0);
  }

  /** @param {number} axis @param {number} start */
  move(axis, start) {
    this.origin[axis] = Math.min(Math.max(Math.round(start) || 0, 0), this.most(axis));
    this.show();
  }

  show() {
    const { table, pixels, origin, starts } = this;
    if (!table || !pixels) return;
    starts?.forEach((start, axis) => document.activeElement !== start && (start.value = String(origin[axis])));
    const name = pixels.channels > 1 ? `${CHANNELS[this.channel]} of each pixel` : "Pixels";
    table.setAttribute("aria-label", `${name}, 0 to 255. Arrow keys move.`);
    const [rows, columns] = [pixels.height, pixels.width].map((side) => Math.min(side, WINDOW));
    const lines = Array.from({ length: rows }, (_row, y) => {
      const cells = Array.from({ length: columns }, (_, x) => make("td", {}, this.input(origin[0] + y, origin[1] + x)));
      return make("tr", {}, ...cells);
    });
    table.replaceChildren(make("tbody", {}, ...lines));
    const first = table.querySelector("input");
    if (first) first.tabIndex = 0;
  }

  /** @param {number} row @param {number} column */
  input(row, column) {
    const { data, width, channels } = /** @type {Pixels} */ (this.pixels);
    const from = (row * width + column) * channels;
    const input = make("input", { inputMode: "numeric", tabIndex: -1, "aria-label": `row ${row}, column ${column}` });
    const show = () => {
      input.value = String(data[from + this.channel]);
      const [r, g, b] = channels > 1 ? data.subarray(from, from + 3) : [data[from], data[from], data[from]];
      input.style.background = `rgb(${r}, ${g}, ${b})`;
      input.style.color = 0.3 * r + 0.59 * g + 0.11 * b > 127 ? "#000" : "#fff";
    };
    show();
    input.addEventListener("change", () => {
      data[from + this.channel] = Math.min(Math.max(Math.round(Number(input.value)) || 0, 0), 255);
      show();
      if (this.pixels) this.changed?.(this.pixels);
    });
    return input;
  }

  /** Arrow keys move between numbers, and the window at its edges. @param {KeyboardEvent} event */
  press(event) {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    const rows = this.table?.rows;
    const cell = event.target instanceof HTMLElement && event.target.closest("td");
    if (!step || !rows || !cell) return;
    event.preventDefault();
    const line = /** @type {HTMLTableRowElement} */ (cell.parentElement);
    const place = [line.rowIndex, cell.cellIndex].map((at, axis) => {
      const next = at + step[axis];
      const sides = [rows.length, line.cells.length];
      if (step[axis] && (next < 0 || next >= sides[axis])) this.move(axis, this.origin[axis] + step[axis]);
      return Math.min(Math.max(next, 0), sides[axis] - 1);
    });
    for (const one of this.querySelectorAll("td input[tabindex='0']")) /** @type {HTMLElement} */ (one).tabIndex = -1;
    const found = this.table?.rows[place[0]].cells[place[1]].querySelector("input");
    if (!found) return;
    found.tabIndex = 0;
    found.focus();
  }
}
