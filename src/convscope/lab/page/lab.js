// What the parts of the page share: the worker, the opened network and its newest answer.
import { byId } from "./views/dom.js";

/**
 * @typedef {import("./network/session.js").Description} Description
 * @typedef {import("./network/session.js").Answer} Answer
 * @typedef {{stage: import("./network/stages.js").Stage, cell: number[], mark?: Element}} Choice a cell of a layer, and its mark
 *
 * @typedef {object} Part of the page, such as a custom element; each method is optional
 * @property {(lab: Lab) => void} [joined] once, before all else
 * @property {(description: Description) => void} [opened] after a network was opened
 * @property {(answer: Answer) => void} [answered] after each image
 * @property {(choice: Choice) => void} [cellChosen]
 * @property {(answer: Answer | null) => void} [kept] when an image is kept for comparing; null when it no longer is
 */

export class Lab {
  /** @type {Description | null} */
  description = null;
  /** @type {Answer | null} the newest */
  answer = null;
  /** @type {Part[]} */
  parts = [];

  /** @param {import("./client.js").LabClient} client */
  constructor(client) {
    this.client = client;
  }

  /** @param {Part} part */
  join(part) {
    this.parts.push(part);
    part.joined?.(this);
  }

  /** Asks the worker. @param {string} action @param {object} request @returns {Promise<any>} */
  ask(action, request = {}) {
    return this.client.ask(action, request);
  }

  /** @param {Description} description */
  opened(description) {
    this.description = description;
    this.answer = null;
    for (const part of this.parts) part.opened?.(description);
  }

  /** @param {Answer} answer */
  answered(answer) {
    if (!this.description) return;
    if (this.description.note === "") this.say("");
    this.answer = answer;
    const start = performance.now();
    for (const part of this.parts) part.answered?.(answer);
    const drawn = performance.now() - start;
    byId("timing").textContent = `network ${answer.milliseconds.toFixed(1)} ms, drawing ${drawn.toFixed(1)} ms`;
  }

  /** Shows an image next to those to come. @param {Answer | null} answer */
  keep(answer) {
    for (const part of this.parts) part.kept?.(answer);
  }

  /** @param {Choice} choice */
  cellChosen(choice) {
    for (const part of this.parts) part.cellChosen?.(choice);
  }

  /** @param {string} text empty hides the message */
  say(text) {
    const message = byId("message");
    message.textContent = text;
    message.hidden = !text;
  }

  /** Says what went wrong instead of failing in silence. @param {() => Promise<void>} task */
  async attempt(task) {
    try {
      await task();
    } catch (error) {
      this.say(error instanceof Error ? error.message : String(error));
    }
  }
}
