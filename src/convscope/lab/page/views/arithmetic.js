// The arithmetic of one cell, term by term.
import { addUp, fixed, total } from "../network/adding.js";
import { isSwitchedOff, switchButton } from "../why/channels.js";
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
    this.from = /** @type {HTMLElement | null} */ (document.activeElement);
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
    const toggle = this.lab && stage.operator !== "Softmax" ? [switchButton(this.lab, stage, cell[0])] : [];
    const isFocused = document.activeElement?.matches("lab-arithmetic .switch");
    this.replaceChildren(
      make("div", { className: "row spread" }, make("h2", {}, `${stage.name}: ${place}`), ...toggle, close),
      make("p", {}, `${stage.summary}: ${found.rule}.`),
      ...(this.lab && isSwitchedOff(this.lab, stage.value, cell[0]) ? [make("p", {}, "It is switched off: its values are 0.")] : this.terms(found)),
    );
    this.classList.add("open");
    if (isFocused) toggle[0]?.focus();
  }

  close() {
    if (this.contains(document.activeElement)) this.from?.focus({ preventScroll: true });
    this.choice = null;
    this.classList.remove("open");
  }

  /** @param {Explanation} found @returns {HTMLElement[]} */
  terms(found) {
    const { terms, window, parts, summands, operation, value } = found;
    if (terms && found.bias !== undefined) return window ? this.maps(found) : this.largest(found);
    if (terms) return this.window(found);
    const rows = (parts ?? []).map(([name, number]) => row("", name, short(number)));
    const list = rows.length ? [products(make("table", {}, ...rows))] : [];
    if (operation) {
      const [formula, first, sign, second] = operation;
      return [...list, sum(`${formula} = ${precise(first)} ${sign} ${precise(second)} = `, short(value))];
    }
    if (!summands) return [...list, sum("= ", short(value))];
    const numbers = summands.map(([, number]) => number);
    const { decimals, value: shown } = addUp(numbers, value);
    const lines = summands.map(([name, number]) => row("term", name, fixed(number, decimals)));
    return [...list, products(make("table", {}, ...lines)), sum("sum = ", shown)];
  }

  /** A pooling window; its mean is a sum that is divided. @param {Explanation} found */
  window({ terms = [], window = [1, 1], argmax, count, value }) {
    const { decimals, value: shown } = addUp(terms.map(({ x }) => x), value, count); // prettier-ignore
    const text = (/** @type {number} */ x) => (count ? fixed(x, decimals) : short(x));
    const table = make("table", {}, make("caption", {}, "window"));
    terms.forEach(({ x, inside }, i) => {
      if (i % window[1] === 0) table.append(make("tr"));
      const name = i === argmax ? "won" : inside ? "term" : "outside";
      table.lastElementChild?.append(make("td", { className: name }, inside ? text(x) : "outside"));
    });
    if (!count) return [products(table), sum("= ", short(value))];
    return [products(table), sum(`sum / ${count} = ${fixed(total(terms.map(({ x }) => x), decimals), decimals)} / ${count} = `, shown)]; // prettier-ignore
  }

  /** The largest terms of a dense layer. @param {Explanation} found */
  largest({ terms = [], bias = 0, value }) {
    const sorted = terms.map((term) => ({ ...term, product: term.x * term.weight }));
    sorted.sort((a, b) => Math.abs(b.product) - Math.abs(a.product));
    const top = sorted.slice(0, MOST_TERMS);
    const rest = sorted.slice(MOST_TERMS).reduce((all, term) => all + term.product, 0);
    const numbers = [...top.map(({ product }) => product), rest];
    const { decimals, value: shown } = addUp([...numbers, bias], value);
    const rows = top.map(({ map, x, weight, product }) => row("term", `entry ${map}`, short(x), short(weight), fixed(product, decimals)));
    const others = sorted.length - top.length;
    if (others) rows.push(row("term", `the other ${others} products`, "", "", fixed(rest, decimals)));
    const caption = make("caption", {}, "largest products: input x weight");
    return [products(make("table", {}, caption, ...rows)), withBias(total(numbers, decimals), bias, decimals, shown)];
  }

  /** The windows and kernels of a convolution, the maps with the largest sums first. @param {Explanation} found */
  maps({ terms = [], window = [1, 1], bias = 0, value }) {
    const [height, width] = [window[0], window[1] ?? 1];
    const size = height * width;
    const groups = Array.from({ length: terms.length / size }, (_, i) => terms.slice(i * size, (i + 1) * size));
    const parts = groups.map((group) => group.map((term) => term.x * term.weight));
    const sums = parts.map((part) => part.reduce((all, one) => all + one, 0));
    const order = groups.map((_, i) => i).sort((a, b) => Math.abs(sums[b]) - Math.abs(sums[a]));
    const top = order.slice(0, MOST_MAPS);
    const rest = order.slice(MOST_MAPS).reduce((all, i) => all + sums[i], 0);
    const numbers = [...top.flatMap((i) => parts[i]), rest];
    const { decimals, value: shown } = addUp([...numbers, bias], value);
    const found = top.map((i) => {
      const name = groups.length > 1 ? `map ${groups[i][0].map}: ` : "";
      const part = fixed(total(parts[i], decimals), decimals);
      return products(
        grid(`${name}window`, groups[i], width, "", ({ x }) => short(x)),
        grid("x kernel", groups[i], width, "", ({ weight }) => short(weight)),
        grid(`= products, sum ${part}`, groups[i], width, "term", (term) => fixed(term.x * term.weight, decimals)),
      );
    });
    const others = order.length - top.length;
    if (others) found.push(sum(`the other ${others} maps: `, fixed(rest, decimals), "term"));
    return [...found, withBias(total(numbers, decimals), bias, decimals, shown)];
  }
}

/** A number with the digits that a float32 has. @param {number} value */
const precise = (value) => String(Number(value.toPrecision(9))).replace("-", "\u2212");

/** @param {...HTMLElement} tables */
const products = (...tables) => make("div", { className: "products" }, ...tables);

/** A line with a number. @param {string} text @param {string} number @param {string} [name] class of the number */
const sum = (text, number, name = "value") => make("p", { className: "sum" }, text, make("span", { className: name }, number));

/** @param {number} all products @param {number} bias @param {number} decimals @param {string} value */
function withBias(all, bias, decimals, value) {
  const term = make("span", { className: "term" }, fixed(bias, decimals));
  return make("p", { className: "sum" }, `${fixed(all, decimals)} + `, term, " (bias) = ", make("span", { className: "value" }, value));
}

/** A row; the class is that of its last cell. @param {string} name @param {...string} texts */
function row(name, ...texts) {
  const line = make("tr", {}, ...texts.map((text) => make("td", {}, text)));
  if (name) line.lastElementChild?.classList.add(name);
  return line;
}

/** @param {string} title @param {Term[]} terms @param {number} width @param {string} name of the cells' class
 * @param {(term: Term) => string} text */
function grid(title, terms, width, name, text) {
  const table = make("table", {}, make("caption", {}, title));
  terms.forEach((term, i) => {
    if (i % width === 0) table.append(make("tr"));
    table.lastElementChild?.append(make("td", { className: `${name} ${term.inside ? "" : "outside"}` }, text(term)));
  });
  return table;
}
