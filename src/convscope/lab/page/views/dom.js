// Elements in one line.

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [properties] of the element; names with a dash, and `role`, are attributes
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "scope") element.setAttribute(name, value);
    else Object.assign(element, { [name]: value });
  }
  element.append(...children);
  return element;
}

/** The element of an id. @param {string} id */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no '${id}'`);
  return found;
}

/** Changes a text; the same one costs no layout. @param {Element} element @param {string} text */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A number as people read it, with up to 6 digits that count. @param {number} value */
export function short(value) {
  if (!Number.isFinite(value)) return String(value);
  return String(Number(value.toPrecision(6))).replace("-", "\u2212");
}

/** @param {number} probability */
export const percent = (probability) => `${(100 * probability).toFixed(1)} %`;

/** Draws 8-bit pixels. @param {HTMLCanvasElement} canvas @param {import("../images/pixels.js").Pixels} pixels */
export function paint(canvas, { height, width, channels, data }) {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const shown = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) shown.data[i * 4 + c] = data[i * channels + (channels === 1 ? 0 : c)];
    shown.data[i * 4 + 3] = channels === 4 ? data[i * 4 + 3] : 255;
  }
  canvas.getContext("2d")?.putImageData(shown, 0, 0);
}
