// The probabilities of the classes, and whether the model answers.
import { make, percent, write } from "./dom.js";

const MAX_ROWS = 10;
const DOUBTS = {
  unsure: "Unsure: the probability is too low to answer.",
  unlike: "No answer: unlike the training images.",
};

export class LabAnswer extends HTMLElement {
  /** @type {string[]} */
  classes = [];
  /** @type {number[] | null} of the kept image */
  other = null;

  /** @param {import("../network/session.js").Description} description */
  opened({ classes }) {
    this.classes = classes;
    this.replaceChildren();
  }

  /** @param {import("../network/session.js").Answer | null} answer */
  kept(answer) {
    this.other = answer && answer.probabilities;
    this.querySelectorAll("tr").forEach((line) => line.remove());
  }

  /** @param {import("../network/session.js").Answer} answer */
  answered({ probabilities, status }) {
    const { classes } = this;
    const order = probabilities.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a] || a - b);
    // The classes keep their order while there are few, so that the bars do not jump.
    const rows = classes.length <= MAX_ROWS ? classes.map((_, i) => i) : order.slice(0, MAX_ROWS);
    const verdict = `${classes[order[0]]} · ${percent(probabilities[order[0]])}`;
    const doubt = status === "answered" ? [] : [make("p", { className: "doubt" }, DOUBTS[status])];
    const old = [...this.querySelectorAll("tbody tr")];
    if (old.length === rows.length) {
      const top = this.querySelector(".verdict");
      if (top) write(top, verdict);
      this.querySelector(".doubt")?.remove();
      top?.after(...doubt);
      old.forEach((line, i) => fill(line, classes[rows[i]], probabilities[rows[i]], this.other?.[rows[i]]));
      return;
    }
    const body = make("tbody");
    for (const i of rows) {
      const bars = make("td", {}, track("fill"));
      const line = make("tr", {}, make("th", { scope: "row" }), bars, make("td"));
      if (this.other) {
        bars.append(track("fill old"));
        line.append(make("td"));
      }
      fill(line, classes[i], probabilities[i], this.other?.[i]);
      body.append(line);
    }
    const heads = ["class", "", "now", "kept"].map((text) => (text ? make("th", { scope: "col" }, text) : make("td")));
    const head = this.other ? [make("thead", {}, make("tr", {}, ...heads))] : [];
    const table = make("table", { "aria-label": "Probabilities" }, ...head, body);
    this.replaceChildren(make("p", { className: "verdict", "aria-live": "polite" }, verdict), ...doubt, table);
  }
}

/** A bar. @param {string} name of its class */
const track = (name) => make("div", { className: "track" }, make("div", { className: name }));

/** @param {Element} line @param {string} name @param {number} probability @param {number} [other] of the kept image */
function fill(line, name, probability, other) {
  const [head, , number, last] = line.children;
  head.textContent = name;
  head.setAttribute("title", name);
  number.textContent = percent(probability);
  if (last) last.textContent = percent(other ?? 0);
  for (const [i, bar] of line.querySelectorAll(".fill").entries()) {
    /** @type {HTMLElement} */ (bar).style.width = `${100 * (i ? (other ?? 0) : probability)}%`;
  }
}
