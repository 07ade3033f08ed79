// The lessons on the page, with the number of tasks that are done.
import { make } from "../views/dom.js";
import { LESSONS } from "./lessons.js";

export class LabLearn extends HTMLElement {
  connectedCallback() {
    if (this.childElementCount) return;
    const finished = new Set();
    const count = make("p", { className: "hint", role: "status" });
    const sections = LESSONS.map(({ title, text, task, build }, i) => {
      const goal = make("p", { className: "task" }, `Task: ${task}`);
      const examples = build((isDone) => {
        if (isDone && this.childElementCount) finished.add(i);
        goal.classList.toggle("done", finished.has(i));
        count.textContent = `${finished.size} of ${LESSONS.length} tasks done`;
      });
      return make("section", { className: "card lesson" }, make("h2", {}, `${i + 1}. ${title}`), make("p", {}, text), ...examples, goal);
    });
    this.append(count, ...sections);
  }
}
