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
    const table = make("table", { "aria-label": name }, make("caption", {}, name));
    this.cells = this.rows.map((row, y) => {
      const line = make("tr");
      const cells = row.map((value, x) => {
        const cell = make("td", {}, changed ? this.input(y, x, changed) : short(value));
        line.append(cell);
        return cell;
      });
      table.append(line);
      return cells;
    });
    this.replaceChildren(table);
    return this;
  }

  /** @param {number} y @param {number} x @param {() => void} changed */
  input(y, x, changed) {
    const input = make("input", { value: String(this.rows[y][x]), inputMode: "decimal", "aria-label": `row ${y + 1}, column ${x + 1}` });
    input.addEventListener("input", () => {
      const value = Number(input.value);
      input.classList.toggle("wrong", input.value.trim() === "" || !Number.isFinite(value));
      if (input.classList.contains("wrong")) return;
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
