// A table of numbers, which can be edited; cells can be marked.
import { make, short } from "../views/dom.js";

export class LabMatrix extends HTMLElement {
  /** @type {number[][]} */
  rows = [];
  /** @type {HTMLElement[][]} */
  cells = [];
  range = [0, 0];

  /** @param {string} name @param {number[][]} rows @param {(() => void) | null} [changed] makes it editable
   * @param {number[]} [range] of its numbers */
  open(name, rows, changed = null, range = [-1e6, 1e6]) {
    this.range = range;
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
      const [low, high] = this.range;
      const isRight = value >= low && value <= high;
      input.ariaInvalid = String(!isRight);
      input.title = isRight ? "" : `Expected a number from ${low} to ${high}`;
      if (!isRight) return;
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
