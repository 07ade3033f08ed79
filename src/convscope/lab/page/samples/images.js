// Images in a row, each with a caption.
import { make } from "../views/dom.js";

/** @typedef {{src: string, caption: string, name: string, mark?: [number, number]}} Shown mark: its place, as fractions
 *   of width and height */

/** @param {Shown[]} images @param {(index: number) => void} [choose] called with the position of a clicked one */
export function imageRow(images, choose) {
  const list = make("ul", { className: "strip" });
  if (choose) list.addEventListener("keydown", (event) => moveFocus(list, event));
  images.forEach(({ src, caption, name, mark }, index) => {
    const box = make(choose ? "button" : "span", { className: "sample", "aria-label": name, ...(choose ? { type: "button", tabIndex: index ? -1 : 0 } : { role: "img" }) });
    const frame = make("span", { className: "thumb" }, make("img", { src, alt: "" }));
    if (mark) {
      const point = make("span", { className: "point" });
      Object.assign(point.style, { left: `${100 * mark[0]}%`, top: `${100 * mark[1]}%` });
      frame.append(point);
    }
    box.append(frame, make("span", {}, caption));
    if (choose) box.addEventListener("click", () => choose(index));
    list.append(make("li", {}, box));
  });
  return list;
}

/** Arrow keys move in the row, so that it is one stop of the Tab key. @param {HTMLElement} list @param {KeyboardEvent} event */
function moveFocus(list, event) {
  const buttons = [...list.querySelectorAll("button")];
  const at = buttons.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
  const last = buttons.length - 1;
  const to = { ArrowLeft: Math.max(at - 1, 0), ArrowRight: Math.min(at + 1, last), Home: 0, End: last }[event.key];
  if (to === undefined) return;
  buttons.forEach((button, i) => (button.tabIndex = i === to ? 0 : -1));
  buttons[to].focus();
  event.preventDefault();
}
