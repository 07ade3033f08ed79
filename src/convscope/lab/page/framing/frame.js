// Drawing ink in the frame of the training images, as `convscope.images.framing.frame` and `.strokes`.
import { between, histogram, image, isEven, lowerQuantile, mapLevels, otsuThreshold } from "../images/pixels.js";
import { fitInside, resize } from "../images/resize.js";
import { dilation } from "./morphology.js";
import { boxOf } from "./surroundings.js";

/**
 * @typedef {import("../images/pixels.js").Pixels} Pixels
 *
 * docs/framing.md explains the fields.
 * @typedef {{side: number, row: number, column: number, offset: number, threshold: number, stroke: number,
 *   ink: number, faintest: number}} Frame
 */

const SUBPIXELS = 256;

/** Whether an image, light ink on black, is in the frame already. @param {Pixels} gray @param {Frame} frame */
export function isFramed(gray, frame) {
  const ink = mapLevels(gray, (value) => (value > frame.threshold ? value : 0));
  const { top, bottom, left, right } = boxOf(ink);
  const peak = gray.data.reduce((a, b) => Math.max(a, b), 0);
  const side = bottom && Math.max(bottom - top, right - left); // 0 without ink
  const { mass, rows, columns } = moments(ink);
  const isCentered = [[rows, frame.row], [columns, frame.column]].every(
    ([moment, center]) => Math.abs(Math.floor((SUBPIXELS * moment) / mass) - center) <= frame.offset,
  ); // prettier-ignore
  return frame.side - 1 <= side && side <= frame.side && isCentered && peak >= frame.faintest;
}

/**
 * @param {import("./ink.js").Ink} ink @param {Frame} frame @param {number} height @param {number} width
 * @returns {Pixels} light ink on black
 */
export function placeInk(ink, frame, height, width) {
  const scaled = scaleStrokes(ink.levels, Math.min(frame.side, height), Math.min(frame.side, width), frame.stroke);
  const { mass, rows, columns } = moments(scaled);
  const start = (/** @type {number} */ target, /** @type {number} */ moment, /** @type {number} */ free) => {
    const wanted = (2 * (target * mass - SUBPIXELS * moment) + SUBPIXELS * mass) / (2 * SUBPIXELS * mass);
    return Math.min(Math.max(0, Math.floor(wanted)), free);
  };
  const top = start(frame.row, rows, height - scaled.height);
  const left = start(frame.column, columns, width - scaled.width);
  const result = image(height, width, 1);
  scaled.data.forEach((level, i) => {
    const at = (top + Math.floor(i / scaled.width)) * width + left + (i % scaled.width);
    result.data[at] = Math.floor((level * frame.ink) / 255);
  });
  return result;
}

/** The sums of the levels (at least 1), of row * level and of column * level. @param {Pixels} levels */
function moments({ width, data }) {
  let mass = 0, rows = 0, columns = 0;
  for (let i = 0; i < data.length; i++) {
    mass += data[i];
    rows += data[i] * Math.floor(i / width);
    columns += data[i] * (i % width);
  }
  return { mass: Math.max(1, mass), rows, columns };
}

/** In 1/256 pixel: twice the area of strokes, divided by the length of their edges. @param {Pixels} levels */
function strokeWidth({ height, width, data }) {
  let area = 0, edges = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const value = data[y * width + x];
      area += value;
      edges += y + 1 < height ? Math.abs(value - data[(y + 1) * width + x]) : value;
      edges += x + 1 < width ? Math.abs(value - data[y * width + x + 1]) : value;
      edges += (y === 0 ? value : 0) + (x === 0 ? value : 0);
    }
  }
  return Math.floor((2 * SUBPIXELS * area) / Math.max(1, edges));
}

/**
 * @param {Pixels} levels @param {number} height @param {number} width at most @param {number} stroke width
 * @returns {Pixels}
 */
function scaleStrokes(levels, height, width, stroke) {
  const scaled = scale(levels, height, width);
  const before = Math.max(levels.height, levels.width), after = Math.max(scaled.height, scaled.width);
  if (before < after) {
    let best = scaled, distance = Infinity;
    for (let middle = 128; middle <= 208; middle += 16) {
      const sharp = mapLevels(scaled, (level) => Math.min(Math.max(Math.floor(((level - middle) * after) / before) + middle, 0), 255));
      const miss = Math.abs(strokeWidth(sharp) - stroke);
      if (miss < distance) [best, distance] = [sharp, miss];
    }
    return best;
  }
  const missing = stroke - strokeWidth(scaled);
  const radius = Math.floor((missing * before) / (2 * SUBPIXELS * after));
  if (radius < 1 || 4 * missing <= stroke) return scaled;
  return scale(dilation(withMargin(levels, radius), radius), height, width);
}

/** @param {Pixels} levels @param {number} n rows and columns of zeros on each side @returns {Pixels} */
function withMargin({ height, width, data }, n) {
  const result = image(height + 2 * n, width + 2 * n, 1);
  data.forEach((level, i) => (result.data[(n + Math.floor(i / width)) * result.width + n + (i % width)] = level));
  return result;
}

/** Fits levels inside a size, and brings strokes back to full ink. @param {Pixels} levels @param {number} height
 * @param {number} width @returns {Pixels} */
function scale(levels, height, width) {
  const [rows, columns] = fitInside(levels.height, levels.width, height, width);
  const scaled = resize(levels, rows, columns);
  const counts = histogram(scaled.data);
  const threshold = isEven(counts) ? -1 : otsuThreshold(counts);
  const full = Math.max(1, lowerQuantile(between(counts, threshold, 255), 1, 2));
  return mapLevels(scaled, (level) => Math.min(255, Math.floor((level * 255) / full)));
}
