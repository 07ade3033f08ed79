// What the lessons are made of.
import { make } from "../views/dom.js";
import { LabMatrix } from "./matrix.js";

/**
 * @typedef {import("../lab.js").Lab} Lab
 * @typedef {[() => string, ...Node[]]} Example what its task still lacks, empty if it is solved; and what is shown
 *
 * @typedef {object} Lesson
 * @property {string} rows of the article
 * @property {string} title
 * @property {string} text
 * @property {string} task
 * @property {(lab: Lab) => Example} build
 */

/** @param {string} name @param {number[][]} rows @param {(() => void) | null} [changed] @param {number[]} [range] */
export const matrix = (name, rows, changed, range) => new LabMatrix().open(name, rows, changed, range);

/** @param {...Node} nodes side by side */
export const side = (...nodes) => make("div", { className: "products" }, ...nodes);

/** @param {...Node} nodes such as buttons and choices */
export const row = (...nodes) => make("div", { className: "row" }, ...nodes);

/** A line that is read aloud after a change. */
export const line = () => make("p", { className: "sum", "aria-live": "polite" });

/** @param {string} text @param {() => void} pressed */
export function button(text, pressed) {
  const one = make("button", { type: "button" }, text);
  one.addEventListener("click", pressed);
  return one;
}

/** Shows the opened network, at one of its panels. @param {string} text @param {string} name of the panel's element */
export function toNetwork(text, name) {
  return button(text, () => {
    const panel = document.querySelector(name)?.closest(".card"), details = panel?.querySelector("details");
    addEventListener("hashchange", () => {
      panel?.scrollIntoView();
      details?.querySelector("summary")?.focus();
    }, { once: true });
    location.hash = "";
    if (details) details.open = true;
  });
}

/** @param {string} name @param {(string | number)[]} values @param {string | number} value @param {() => void} [changed] */
export function choice(name, values, value, changed = () => {}) {
  const select = make("select", {}, ...values.map((one) => make("option", {}, String(one))));
  select.value = String(value);
  select.addEventListener("change", changed);
  return { select, label: make("label", {}, `${name} `, select) };
}

/** A question for a whole number. @param {string} name */
export function question(name) {
  const input = make("input", { inputMode: "numeric", size: 10 });
  return { typed: () => parseFloat(input.value.replace(/[\s,.]/g, "")), label: make("label", {}, `${name} `, input) };
}

/** @param {(string | number)[][]} rows the first one is the head */
export function table(rows) {
  return make("table", {}, ...rows.map((cells, i) => make("tr", {}, ...cells.map((cell) => make(i ? "td" : "th", {}, cell.toLocaleString("en"))))));
}

/** A picture of squares, 3 in a row. @param {string} name */
export function shades(name) {
  const box = make("div", { className: "shades", role: "img", "aria-label": name });
  const color = (/** @type {string[]} */ colors) => box.replaceChildren(...colors.map((background) => {
    const shade = make("span");
    shade.style.background = background;
    return shade;
  }));
  return { box, color };
}

/** Buttons that walk through the cells of a map; people who want little motion get no Play.
 * @param {(at: number) => boolean} show a cell; returns whether it is the last one */
export function walker(show) {
  let at = -1, timer = 0;
  const play = button("Play", () => (timer ? stop() : start()));
  const next = button("Next cell", step);
  play.hidden = matchMedia("(prefers-reduced-motion: reduce)").matches;
  return { nodes: [play, next], reset: () => (at = -1) };
  function step() {
    if (show(++at)) {
      at = -1;
      stop();
    }
  }
  function start() {
    play.textContent = "Pause";
    timer = setInterval(() => (play.isConnected ? step() : stop()), 700);
    step();
  }
  function stop() {
    clearInterval(timer);
    timer = 0;
    play.textContent = "Play";
  }
}
