// The operations of the lessons on small square matrices, as `reference.py` writes them, and kernels on images.
import { short } from "../views/dom.js";

/** A window's values, row by row. @typedef {number[]} Window */

/** Zeros before and after each row and column. @param {number} side @param {number} size of the window
 * @param {number} stride @param {string} pad "valid", "same" or a number */
function padsOf(side, size, stride, pad) {
  if (pad !== "same") return [Number(pad) || 0, Number(pad) || 0];
  const total = Math.max((Math.ceil(side / stride) - 1) * stride + size - side, 0);
  return [Math.floor(total / 2), Math.ceil(total / 2)];
}

/** All windows of an image. @param {number[][]} image @param {number} size @param {number} stride @param {string} pad
 * @returns {{windows: Window[][], before: number}} `before`: zeros added at the top and the left */
export function slide(image, size, stride, pad) {
  const [before, after] = padsOf(image.length, size, stride, pad);
  const places = Array.from({ length: Math.floor((image.length + before + after - size) / stride) + 1 }, (_, i) => i * stride - before);
  const steps = [...Array(size).keys()];
  const windows = places.map((top) => places.map((left) => steps.flatMap((y) => steps.map((x) => image[top + y]?.[left + x] ?? 0))));
  return { windows, before };
}

/** @param {number[]} values */
export const sumOf = (values) => values.reduce((a, b) => a + b, 0);

/** @param {number[]} a @param {number[]} b */
export const dot = (a, b) => sumOf(a.map((value, i) => value * b[i]));

/** The products of `dot`, in words. @param {number[]} a @param {number[]} b */
export function termsOf(a, b) {
  const term = (/** @type {number} */ value) => (value < 0 ? `(${short(value)})` : short(value));
  return a.map((value, i) => `${term(value)}·${term(b[i])}`).join(" + ");
}

/** @type {Record<string, (window: Window) => number>} */
export const POOLS = {
  max: (window) => Math.max(...window),
  min: (window) => Math.min(...window),
  average: (window) => sumOf(window) / window.length,
};

/** @param {number[]} logits */
export function softmaxOf(logits) {
  const powers = logits.map((logit) => Math.exp(logit - Math.max(...logits)));
  return powers.map((power) => power / sumOf(powers));
}

/** Applies a 3x3 kernel to each color; pixels beyond an edge equal those at it. @param {ImageData} image
 * @param {number[]} kernel @returns {ImageData} */
export function filterImage({ width, height, data }, kernel) {
  const result = new ImageData(width, height);
  const inside = (/** @type {number} */ value, /** @type {number} */ side) => Math.min(Math.max(value, 0), side - 1);
  for (let i = 0; i < data.length; i++) {
    const x = (i >> 2) % width, y = Math.floor((i >> 2) / width);
    const at = (/** @type {number} */ j) => 4 * (inside(y + Math.floor(j / 3) - 1, height) * width + inside(x + (j % 3) - 1, width));
    result.data[i] = i % 4 === 3 ? 255 : kernel.reduce((sum, weight, j) => sum + weight * data[at(j) + (i % 4)], 0);
  }
  return result;
}

/** The 95 % Wilson interval of a fraction. @param {number} fraction @param {number} n */
export function intervalOf(fraction, n) {
  const z = 1.959964;
  const center = fraction + (z * z) / (2 * n), spread = z * Math.sqrt((fraction * (1 - fraction)) / n + (z * z) / (4 * n * n));
  return [center - spread, center + spread].map((limit) => limit / (1 + (z * z) / n));
}
