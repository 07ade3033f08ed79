// Channels that are switched off, and how that changes the answer.
import { make, percent } from "../views/dom.js";

const MAX_ROWS = 3;

/** Sets a channel to 0, or no longer. @param {import("../lab.js").Lab} lab
 * @param {import("../network/session.js").Channel} channel */
export function switchChannel(lab, channel) {
  return lab.attempt(async () => lab.answered(await lab.ask("classifySwitched", channel)));
}

/** @param {import("../lab.js").Lab} lab @param {string} value @param {number} channel */
export const isSwitchedOff = (lab, value, channel) =>
  lab.answer?.off.some((one) => one.value === value && one.channel === channel) ?? false;

/** A button that switches a channel of a layer. @param {import("../lab.js").Lab} lab
 * @param {import("../network/stages.js").Stage} stage @param {number} channel */
export function switchButton(lab, { value, shape }, channel) {
  const isOff = isSwitchedOff(lab, value, channel);
  const button = make("button", { type: "button", className: "switch", }, `Switch ${shape.length > 1 ? "map" : "unit"} ${channel} ${isOff ? "on" : "off"}`);
  button.addEventListener("click", () => switchChannel(lab, { value, channel }));
  return button;
}

export class LabChannels extends HTMLElement {
  /** @param {import("../lab.js").Lab} lab */
  joined(lab) {
    this.lab = lab;
    this.setAttribute("aria-live", "polite");
  }

  opened() {
    this.replaceChildren();
  }

  /** @param {import("../network/session.js").Answer} answer */
  answered({ off, before, probabilities }) {
    const { lab } = this;
    if (!lab?.description || (!before && !this.firstChild)) return;
    const { classes, stages } = lab.description;
    const buttons = off.map((channel) => {
      const stage = stages.find(({ value }) => value === channel.value);
      const name = `${stage?.name}, ${(stage?.shape.length ?? 0) > 1 ? "map" : "unit"} ${channel.channel}`;
      const button = make("button", { type: "button" }, `${name} is off: switch on`);
      button.addEventListener("click", () => switchChannel(lab, channel));
      return button;
    });
    const largest = (/** @type {number} */ i) => Math.max(probabilities[i], before?.[i] ?? 0);
    const order = probabilities.map((_, i) => i).sort((a, b) => largest(b) - largest(a)).slice(0, MAX_ROWS); // prettier-ignore
    const rows = order.map((i) => make("li", {}, `${classes[i]}: ${percent(before?.[i] ?? 0)} → ${percent(probabilities[i])}`)); // prettier-ignore
    this.replaceChildren(...(before ? [make("div", { className: "row" }, ...buttons), make("p", { className: "hint" }, "Probabilities with all channels on → now"), make("ul", {}, ...rows)] : []));
  }
}
