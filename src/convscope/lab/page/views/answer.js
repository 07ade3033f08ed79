// The probabilities of the classes, and whether the model answers.
import { make, percent } from "./dom.js";

const MAX_ROWS = 10;
const DOUBTS = {
  unsure: "Unsure: the probability is too low to answer.",
  unlike: "No answer: unlike the training images.",
};

export class LabAnswer extends HTMLElement {
  /** @type {string[]} */
  classes = [];

  /** @param {import("../network/session.js").Description} description */
  opened({ classes }) {
    this.classes = classes;
    this.replaceChildren();
  }

  /** @param {import("../network/session.js").Answer} answer */
  answered({ probabilities, status }) {
    const { classes } = this;
    const order = probabilities.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a] || a - b);
    // The classes keep their order while there are few, so that the bars do not jump.
    const rows = classes.length <= MAX_ROWS ? classes.map((_, i) => i) : order.slice(0, MAX_ROWS);
    const verdict = `${classes[order[0]]} ${percent(probabilities[order[0]])}`;
    const doubt = status === "answered" ? [] : [make("p", { className: "doubt" }, DOUBTS[status])];
    const old = [...this.querySelectorAll("tr")];
    if (old.length === rows.length) {
      const top = this.querySelector(".verdict");
      if (top && top.textContent !== verdict) top.textContent = verdict;
      this.querySelector(".doubt")?.remove();
      top?.after(...doubt);
      old.forEach((line, i) => fill(line, classes[rows[i]], probabilities[rows[i]]));
      return;
    }
    const body = make("tbody");
    for (const i of rows) {
      const bar = make("div", { className: "track" }, make("div", { className: "fill" }));
      const line = make("tr", {}, make("th", { scope: "row" }), make("td", {}, bar), make("td"));
      fill(line, classes[i], probabilities[i]);
      body.append(line);
    }
    const table = make("table", { "aria-label": "Probabilities" }, body);
    this.replaceChildren(make("p", { className: "verdict", "aria-live": "polite" }, verdict), ...doubt, table);
  }
}

/** @param {HTMLTableRowElement} line @param {string} name @param {number} probability */
function fill(line, name, probability) {
  const [head, , number] = line.children;
  head.textContent = name;
  head.setAttribute("title", name);
  number.textContent = percent(probability);
  const bar = line.querySelector(".fill");
  if (bar instanceof HTMLElement) bar.style.width = `${100 * probability}%`;
}
