// One step of backpropagation: the gradient of any weight as a sum of terms, and what a step changes (article, A8, A13).
import { make, percent, short } from "./dom.js";

/**
 * @typedef {import("../backprop/trainer.js").Loss} Loss
 * @typedef {import("../backprop/trainer.js").WeightGradient} WeightGradient
 */

const MOST_TERMS = 10;
/** @type {Record<number, string>} what an index counts, by its length */
const NAMES = { 1: "channel or unit", 2: "unit, input", 4: "filter, channel, row, column" };

export class LabBackprop extends HTMLElement {
  /** @type {Loss | null} */
  found = null;
  label = make("select");
  rate = make("input", { type: "number", value: "0.01", step: "any", min: "0" });
  momentum = make("input", { type: "number", value: "0.9", step: "any", min: "0" });
  array = make("select");
  index = make("input", { size: 16 });
  names = make("span", { className: "hint" });
  loss = make("p", { className: "sum", "aria-live": "polite" });
  view = make("div", { className: "terms", tabIndex: 0, role: "group", "aria-label": "Gradient" });
  buttons = ["Step this weight", "Step all weights", "Undo all steps"].map((text) => make("button", { type: "button" }, text));
  details = make("details", {}, make("summary", {}, make("h2", {}, "One step of backpropagation")));

  /** @param {import("../lab.js").Lab} lab */
  joined(lab) {
    this.lab = lab;
    const label = (/** @type {string} */ text, /** @type {Node} */ field) => make("label", {}, `${text} `, field);
    this.details.append(
      make("p", { className: "hint" }, "The loss is \u2212log of the true class's probability, before calibration. A weight's gradient is a sum over all outputs, at (row, column), that use it: the gradient of the output, times the input it met."),
      make("div", { className: "row" }, label("True class", this.label), label("Learning rate", this.rate), label("Momentum", this.momentum)),
      this.loss,
      make("div", { className: "row" }, label("Weights", this.array), label("Index", this.index), this.names),
      this.view,
      make("div", { className: "row" }, ...this.buttons),
    );
    this.append(this.details);
    this.details.addEventListener("toggle", () => this.refresh());
    this.label.addEventListener("change", () => this.refresh());
    this.array.addEventListener("change", () => this.choose(this.array.selectedIndex));
    for (const field of [this.index, this.rate, this.momentum]) field.addEventListener("change", () => this.showWeight());
    const [one, all, undo] = this.buttons;
    one.addEventListener("click", () => this.step({ name: this.chosen?.name, index: this.place() }));
    all.addEventListener("click", () => this.step(null));
    undo.addEventListener("click", () => this.answerAgain("undoSteps", {}));
  }

  /** @param {import("../lab.js").Description} description */
  opened({ classes }) {
    this.found = null;
    this.label.replaceChildren(...classes.map((name) => make("option", {}, name)));
  }

  /** @param {import("../lab.js").Answer} answer */
  answered({ probabilities }) {
    if (!this.found) this.label.selectedIndex = probabilities.indexOf(Math.max(...probabilities));
    this.refresh();
  }

  /** @param {import("../lab.js").Choice} choice */
  cellChosen({ stage, cell }) {
    const at = this.found?.weights.findIndex(({ layer }) => layer === stage.name) ?? -1;
    if (at >= 0) this.choose(at, cell[0]);
  }

  get chosen() {
    return this.found?.weights[this.array.selectedIndex];
  }

  /** Computes all gradients, if they are looked at. */
  async refresh() {
    if (!this.details.open) return;
    await this.lab?.attempt(async () => {
      const first = !this.found;
      /** @type {Loss} */
      const found = await this.lab?.ask("backpropagate", { label: this.label.selectedIndex });
      this.found = found;
      this.loss.textContent = `loss ${short(found.loss)}, probability ${percent(found.probability)}`;
      if (first) {
        const names = found.weights.map(({ layer, kind, shape }) => make("option", {}, `${layer} ${kind} (${shape.join(" x ")})`));
        this.array.replaceChildren(...names);
        this.index.value = found.largest.join(", ");
      }
      await this.showWeight();
    });
  }

  /** @param {number} at which array @param {number} [filter] or unit */
  choose(at, filter = 0) {
    this.array.selectedIndex = at;
    this.index.value = (this.chosen?.shape ?? []).map((_, i) => (i ? 0 : filter)).join(", ");
    this.showWeight();
  }

  /** The index that was typed. Throws an Error if there is no such weight. */
  place() {
    const shape = this.chosen?.shape ?? [];
    const index = this.index.value.split(/[\s,]+/).filter(Boolean).map(Number);
    if (index.length !== shape.length || index.some((one, i) => !(Number.isInteger(one) && one >= 0 && one < shape[i]))) {
      throw new Error(`expected ${shape.length} numbers, at most ${shape.map((side) => side - 1).join(", ")}, got "${this.index.value}"`);
    }
    return index;
  }

  async showWeight() {
    const { lab, chosen } = this;
    if (!lab || !chosen) return;
    this.names.textContent = NAMES[chosen.shape.length] ?? "";
    /** @type {Node[]} */
    let content;
    try {
      content = this.explain(await lab.ask("weightGradient", { name: chosen.name, index: this.place() }));
    } catch (error) {
      content = [make("p", { className: "doubt", role: "alert" }, error instanceof Error ? error.message : String(error))];
    }
    this.view.replaceChildren(...content);
  }

  /** @param {WeightGradient} found */
  explain({ value, gradient, velocity, terms }) {
    const [rate, momentum] = [Number(this.rate.value), Number(this.momentum.value)];
    const next = momentum * velocity - rate * gradient;
    const shown = terms.slice(0, MOST_TERMS), rest = terms.slice(MOST_TERMS);
    const rows = shown.map(({ place, slope, x, product }) => [place, short(slope), short(x), short(product)]);
    if (rest.length) rows.push([`the other ${rest.length}`, "", "", short(rest.reduce((sum, term) => sum + term.product, 0))]);
    const line = (/** @type {string[]} */ cells, /** @type {"td" | "th"} */ tag) => make("tr", {}, ...cells.map((text) => make(tag, {}, text)));
    const table = make("table", {}, line(["output", "its gradient", "x input", "= product"], "th"), ...rows.map((row) => line(row, "td")));
    return [
      make("div", { className: "products" }, table),
      make("p", { className: "sum" }, `gradient = ${short(gradient)}`),
      make("p", { className: "sum" }, `velocity = ${momentum} \u00b7 ${short(velocity)} \u2212 ${rate} \u00b7 ${short(gradient)} = ${short(next)}`),
      make("p", { className: "sum" }, `weight = ${short(value)} + ${short(next)} = ${short(value + next)}`),
    ];
  }

  /** @param {object | null} one weight; null: all */
  step(one) {
    return this.answerAgain("step", { rate: Number(this.rate.value), momentum: Number(this.momentum.value), one });
  }

  /** @param {string} action that changes weights @param {object} request */
  answerAgain(action, request) {
    return this.lab?.attempt(async () => this.lab?.answered(await this.lab.ask(action, request)));
  }
}
