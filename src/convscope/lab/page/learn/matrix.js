// A table of numbers, which can be edited; cells can be marked.
import { make, short } from "../views/dom.js";

export class LabMatrix extends HTMLElement {
  /** @type {number[][]} */
  rows = [];
  /** @type {HTMLElement[][]} */
  cells = [];

  /** @param {string} name @param {number[][]} rows @param {(() => void) | null} [changed] makes it editable */
  open(name, rows, changed = null) {
    this.rows = rows.map((row) => [...row]);
    this.cells = this.rows.map((row, y) => row.map((value, x) => make("td", {}, changed ? this.input(y, x, changed) : short(value))));
    this.replaceChildren(make("table", { "aria-label": name }, make("caption", {}, name), ...this.cells.map((row) => make("tr", {}, ...row))));
    return this;
  }

  /** @param {number} y @param {number} x @param {() => void} changed */
  input(y, x, changed) {
    const input = make("input", { value: String(this.rows[y][x]), inputMode: "decimal", "aria-label": `row ${y + 1}, column ${x + 1}` });
    input.addEventListener("input", () => {
      const value = input.value.trim() ? Number(input.value.replace(",", ".")) : NaN;
      input.ariaInvalid = String(!Number.isFinite(value));
      if (!Number.isFinite(value)) return;
      this.rows[y][x] = value;
      changed();
    });
    return input;
  }

  /** @param {(y: number, x: number) => boolean} isMarked */
  mark(isMarked) {
    this.cells.forEach((row, y) => row.forEach((cell, x) => cell.classList.toggle("won", isMarked(y, x))));
  }
}

/** @param {string} text such as "101/010" @returns {number[][]} */
export const digits = (text) => text.split("/").map((row) => [...row].map(Number));
