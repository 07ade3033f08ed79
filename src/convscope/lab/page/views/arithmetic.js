// The arithmetic of one cell, term by term.
import { make, short } from "./dom.js";

/** @typedef {import("../network/cell.js").Explanation} Explanation @typedef {import("../network/cell.js").Term} Term */

const MOST_MAPS = 3;
const MOST_TERMS = 12;

export class LabArithmetic extends HTMLElement {
  /** @type {import("../lab.js").Choice | null} */
  choice = null;

  /** @param {import("../lab.js").Lab} lab */
  joined(lab) {
    this.lab = lab;
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.close());
  }

  opened() {
    this.close();
  }

  answered() {
    this.explain();
  }

  /** @param {import("../lab.js").Choice} choice */
  async cellChosen(choice) {
    this.choice = choice;
    await this.explain();
    this.focus({ preventScroll: true });
    choice.mark?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  async explain() {
    const { lab, choice } = this;
    await lab?.attempt(async () => {
      if (!choice) return;
      const found = await lab.ask("explain", { value: choice.stage.value, cell: choice.cell });
      if (choice === this.choice) this.show(choice.stage, choice.cell, found);
    });
  }

  /** @param {import("../network/stages.js").Stage} stage @param {number[]} cell @param {Explanation} found */
  show(stage, cell, found) {
    const place = cell.length === 1 ? `unit ${cell[0]}` : `map ${cell[0]}, row ${cell[1]}, column ${cell[2]}`;
    const close = make("button", { type: "button", "aria-label": "Close the arithmetic" }, "Close");
    close.addEventListener("click", () => this.close());
    this.setAttribute("role", "region");
    this.setAttribute("aria-label", "Arithmetic of a cell");
    this.tabIndex = -1;
    this.replaceChildren(
      make("div", { className: "row spread" }, make("h2", {}, `${stage.name}: ${place}`), close),
      make("p", {}, `${stage.summary}: ${found.rule}.`),
      ...this.terms(found),
      make("p", { className: "sum" }, this.equation(found)),
    );
    this.classList.add("open");
  }

  close() {
    this.choice = null;
    this.classList.remove("open");
  }

  /** @param {Explanation} found @returns {HTMLElement[]} */
  terms(found) {
    const { terms, window, parts } = found;
    if (parts?.length) {
      const rows = parts.map(([name, value]) => make("tr", {}, make("td", {}, name), make("td", {}, short(value))));
      return [make("div", { className: "products" }, make("table", {}, ...rows))];
    }
    if (!terms) return [];
    if (found.bias === undefined) return [this.windowTable(found)];
    if (!window) return [this.largest(terms)];
    return this.maps(terms, window[0] * window[1], window[1]);
  }

  /** @param {Explanation} found */
  windowTable({ terms = [], window = [1, 1], argmax }) {
    const table = make("table", {}, make("caption", {}, "window"));
    terms.forEach((term, i) => {
      if (i % window[1] === 0) table.append(make("tr"));
      const name = i === argmax ? "won" : term.inside ? "" : "outside";
      table.lastElementChild?.append(make("td", { className: name }, term.inside ? short(term.x) : "outside"));
    });
    return make("div", { className: "products" }, table);
  }

  /** The largest terms of a dense layer. @param {Term[]} terms */
  largest(terms) {
    const sorted = terms.map((term) => ({ ...term, product: term.x * term.weight }));
    sorted.sort((a, b) => Math.abs(b.product) - Math.abs(a.product));
    const rows = sorted.slice(0, MOST_TERMS).map(({ map, x, weight, product }) =>
      make("tr", {}, ...[`entry ${map}`, short(x), short(weight), short(product)].map((text) => make("td", {}, text))),
    );
    const rest = sorted.slice(MOST_TERMS);
    const sum = rest.reduce((total, term) => total + term.product, 0);
    if (rest.length) rows.push(make("tr", {}, make("td", { colSpan: 3 }, `the other ${rest.length} products`), make("td", {}, short(sum))));
    const caption = make("caption", {}, "largest products: input x weight");
    return make("div", { className: "products" }, make("table", {}, caption, ...rows));
  }

  /** The windows and kernels of a convolution, the maps with the largest sums first.
   * @param {Term[]} terms @param {number} size of a window @param {number} width of a window */
  maps(terms, size, width) {
    const groups = Array.from({ length: terms.length / size }, (_, i) => terms.slice(i * size, (i + 1) * size));
    const sums = groups.map((group) => group.reduce((sum, term) => sum + term.x * term.weight, 0));
    const order = groups.map((_, i) => i).sort((a, b) => Math.abs(sums[b]) - Math.abs(sums[a]));
    const found = order.slice(0, MOST_MAPS).map((i) => {
      const name = groups.length > 1 ? `map ${groups[i][0].map}: ` : "";
      const columns = [
        grid(`${name}window`, groups[i], width, (term) => term.x), grid("x kernel", groups[i], width, (term) => term.weight),
        grid(`= products, sum ${short(sums[i])}`, groups[i], width, (term) => term.x * term.weight),
      ]; // prettier-ignore
      return make("div", { className: "products" }, ...columns);
    });
    const rest = order.slice(MOST_MAPS);
    const sum = rest.reduce((total, i) => total + sums[i], 0);
    return rest.length ? [...found, make("p", { className: "sum" }, `the other ${rest.length} maps: ${short(sum)}`)] : found;
  }

  /** @param {Explanation} found */
  equation({ sum, bias, value }) {
    if (sum === undefined || bias === undefined) return `= ${short(value)}`;
    return `${short(sum)} ${bias < 0 ? "\u2212" : "+"} ${short(Math.abs(bias))} (bias) = ${short(value)}`;
  }
}

/** @param {string} title @param {Term[]} terms @param {number} width @param {(term: Term) => number} number */
function grid(title, terms, width, number) {
  const table = make("table", {}, make("caption", {}, title));
  terms.forEach((term, i) => {
    if (i % width === 0) table.append(make("tr"));
    table.lastElementChild?.append(make("td", { className: term.inside ? "" : "outside" }, short(Number(number(term).toPrecision(4)))));
  });
  return table;
}
