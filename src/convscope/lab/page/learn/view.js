// The lessons on the page, one at a time, at the addresses #learn-1, #learn-2...; with their list and what is done.
import { make } from "../views/dom.js";
import { LAYERS } from "./layers.js";
import { PRACTICE } from "./practice.js";

const LESSONS = [...LAYERS, ...PRACTICE];

export class LabLearn extends HTMLElement {
  /** @type {Set<number>} */
  finished = new Set((sessionStorage.getItem("lessons") || "").split(",").filter(Boolean).map(Number)); // kept when reloading
  at = Math.max(0, LESSONS.findIndex((_, i) => !this.finished.has(i)));
  /** @type {HTMLElement[]} built when first shown */
  sections = [];
  count = make("summary");
  links = LESSONS.map(({ title }, i) => make("a", { href: `#learn-${i + 1}` }, title));
  list = make("details", { open: matchMedia("(min-width: 760px)").matches }, this.count, make("ol", {}, ...this.links.map((link) => make("li", {}, link))));
  box = make("div");

  /** @param {import("../lab.js").Lab} lab */
  joined(lab) {
    this.lab = lab;
    this.append(make("nav", { className: "card", "aria-label": "Lessons" }, this.list), this.box);
    addEventListener("hashchange", () => {
      if (!this.show()) return;
      this.box.querySelector("h2")?.focus();
      scrollTo(0, 0);
    });
    this.show();
  }

  /** The lesson of the address; false elsewhere. */
  show() {
    const [isLesson, number] = location.hash.match(/^#learn(?:-(\d+))?\b/) ?? [];
    if (!isLesson || !this.lab) return false;
    if (number) this.at = Math.min(Math.max(Number(number), 1), LESSONS.length) - 1;
    this.box.replaceChildren((this.sections[this.at] ??= this.build(this.at, this.lab)));
    this.showDone();
    return true;
  }

  showDone() {
    this.count.textContent = `${this.finished.size} of ${LESSONS.length} lessons done`;
    this.links.forEach((link, i) => {
      const isDone = this.finished.has(i);
      link.textContent = LESSONS[i].title + (isDone ? "\u00a0\u2713" : "");
      link.ariaLabel = LESSONS[i].title + (isDone ? ", done" : "");
      link.ariaCurrent = i === this.at ? "page" : null;
    });
  }

  /** @param {number} i @param {import("../lab.js").Lab} lab */
  build(i, lab) {
    const { rows, title, text, task, build } = LESSONS[i];
    const [lacks, ...example] = build(lab);
    const verdict = make("p", { role: "status" });
    const isLast = i + 1 === LESSONS.length;
    const next = make("a", { className: "button", href: isLast ? "#" : `#learn-${i + 2}` }, isLast ? "To the network" : "Next lesson");
    const controls = make("div", { className: "row" }, make("button", {}, "Check"), next);
    const form = make("form", { className: "card lesson" }, make("h2", { tabIndex: -1 }, `${i + 1}. ${title}`), make("p", {}, text), make("p", { className: "task" }, `Task: ${task}`), ...example, controls, verdict);
    form.dataset.rows = rows;
    form.addEventListener("input", () => (verdict.textContent = ""));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const odd = /** @type {HTMLInputElement | null} */ (form.querySelector("[aria-invalid=true]"));
      const hint = odd ? `${odd.title}, but “${odd.value}” came.` : lacks(), right = !hint;
      if (right) this.finished.add(i);
      sessionStorage.setItem("lessons", String([...this.finished]));
      form.classList.toggle("done", right);
      verdict.textContent = right ? "Right." : `Not yet. ${hint}`;
      this.showDone();
    });
    return form;
  }
}
