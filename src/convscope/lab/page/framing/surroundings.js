// What surrounds the paper in an image, as `convscope.images.framing.surroundings`; docs/framing.md has the steps.
import { between, borderLevel, cut, histogram, image, lowerQuantile, mapLevels, otsuThreshold, ring } from "../images/pixels.js";
import { fitInside, resize } from "../images/resize.js";
import { connectedComponents, dilation, fill } from "./morphology.js";

/**
 * @typedef {import("../images/pixels.js").Pixels} Pixels
 * @typedef {{top: number, bottom: number, left: number, right: number}} Box
 */

const LARGEST_SIDE = 160;
const TURN = 16;

/** To fit inside 160x160. @param {Pixels} gray */
export function reduceGray(gray) {
  const { height, width } = gray;
  if (Math.max(height, width) <= LARGEST_SIDE) return gray;
  const [rows, columns] = fitInside(height, width, LARGEST_SIDE, LARGEST_SIDE);
  return resize(gray, rows, columns);
}

/** @param {Pixels} pixels @param {Box} box */
export const cutBox = (pixels, { top, bottom, left, right }) => cut(pixels, top, bottom, left, right);

/** The rectangle inside a border of another color; null without one. @param {Pixels} gray @returns {Box | null} */
export function insideRectangle(gray) {
  /** @type {Box | null} */
  let inside = null;
  let top = 0, left = 0;
  for (let i = 0, part = gray; i < 3; i++) {
    const found = first(borders(part), innerRectangle);
    if (!found) break;
    part = cutBox(part, found);
    inside = { top: top + found.top, bottom: top + found.bottom, left: left + found.left, right: left + found.right };
    ({ top, left } = inside);
  }
  return inside;
}

/** A sheet that lies askew, cut to its box, its surroundings replaced by its paper. @param {Pixels} gray */
export function findSheet(gray) {
  return first(borders(gray), (border) => {
    const sheet = sheetOf(border);
    if (!sheet) return null;
    const paper = lowerQuantile(histogram(gray.data.filter((_, i) => sheet.data[i] && !border.data[i])), 1, 2);
    const outside = dilation(mapLevels(sheet, (value) => 1 - value), 2);
    const filled = { ...gray, data: gray.data.map((value, i) => (outside.data[i] ? paper : value)) };
    return cutBox(filled, boxOf(sheet));
  });
}

/** @template T, R @param {Iterable<T>} items @param {(item: T) => R | null} f @returns {R | null} */
function first(items, f) {
  for (const item of items) {
    const found = f(item);
    if (found) return found;
  }
  return null;
}

/** What may be border, masks of 0 and 1. @param {Pixels} gray @returns {Generator<Pixels>} */
function* borders(gray) {
  const edge = borderLevel(gray);
  yield mapLevels(gray, (value) => Math.abs(value - edge) <= 24);
  const counts = histogram(gray.data), threshold = otsuThreshold(counts);
  const sides = [between(counts, -1, threshold), between(counts, threshold, 255)].filter((side) => side.some(Boolean));
  for (const level of [threshold, ...sides.map(otsuThreshold)]) {
    yield mapLevels(gray, (value) => value <= level);
    yield mapLevels(gray, (value) => value > level);
  }
}

/** The number of pixels that are not 0, by row and by column. @param {Pixels} mask */
function countLines({ height, width, data }) {
  const rows = new Uint32Array(height), columns = new Uint32Array(width);
  for (let row = 0, at = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      if (!data[at++]) continue;
      rows[row]++;
      columns[column]++;
    }
  }
  return { rows, columns };
}

/** @param {Pixels} border @returns {Box | null} */
function innerRectangle(border) {
  const { height, width } = border;
  const counts = countLines(border);
  const isInside = (/** @type {number} */ side) => (/** @type {number} */ count) => 10 * count < 9 * side;
  let top = counts.rows.findIndex(isInside(width)), left = counts.columns.findIndex(isInside(height));
  if (top < 0 || left < 0) return null;
  let bottom = counts.rows.findLastIndex(isInside(width)) + 1, right = counts.columns.findLastIndex(isInside(height)) + 1;
  if (top === 0 && left === 0 && bottom === height && right === width) return null;
  if (top > 0) top++;
  if (left > 0) left++;
  if (bottom < height) bottom--;
  if (right < width) right--;
  if (8 * (bottom - top) * (right - left) < height * width || Math.min(bottom - top, right - left) < 8) return null;
  const inside = { top, bottom, left, right };
  const { height: rows, width: columns, data } = cutBox(border, inside);
  const edges = [0, 0, 0, 0];
  data.forEach((value, i) => {
    if (i < columns) edges[0] += value;
    if (i >= (rows - 1) * columns) edges[1] += value;
    if (i % columns === 0) edges[2] += value;
    if (i % columns === columns - 1) edges[3] += value;
  });
  return edges.some((count, i) => 10 * count > (i < 2 ? columns : rows)) ? null : inside;
}

/** The sheet that a border encloses, with all that lies on it. @param {Pixels} border @returns {Pixels | null} */
function sheetOf(border) {
  const { height, width } = border;
  const outer = ring(border);
  if (2 * outer.reduce((a, b) => a + b, 0) < outer.length) return null;
  const outside = new Int32Array(height * width);
  let left = outside.length;
  for (let y = 0; y < height; y++) {
    const isEdge = y === 0 || y === height - 1;
    for (let x = 0; x < width; x += isEdge || width < 2 ? 1 : width - 1) left -= fill(border, outside, y * width + x, 1);
  }
  if (8 * left < height * width) return null;
  const { labels, sizes } = connectedComponents(select(border, outside, 0));
  const area = sizes.reduce((a, b) => Math.max(a, b));
  const sheet = select(border, labels, sizes.indexOf(area));
  const box = boxOf(sheet);
  if (8 * area < height * width || Math.min(box.bottom - box.top, box.right - box.left) < 8) return null;
  const ink = sheet.data.reduce((sum, value, i) => sum + (value && border.data[i]), 0);
  return 100 * ink >= area && area >= 4 * ink && isRectangle(cutBox(sheet, box), area) ? sheet : null;
}

/** The mask of a label. @param {Pixels} size @param {Int32Array} labels @param {number} label */
function select({ height, width }, labels, label) {
  const mask = image(height, width, 1);
  for (let i = 0; i < labels.length; i++) mask.data[i] = Number(labels[i] === label);
  return mask;
}

/** Whether a mask fills 90 % of the smallest rectangle around it, at any angle. @param {Pixels} box @param {number} area */
function isRectangle({ height, width, data }, area) {
  let smallest = Infinity;
  for (let turn = -TURN; turn <= TURN; turn++) {
    let [minA, maxA, minB, maxB] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let y = 0; y < height; y++) {
      const row = data.subarray(y * width, (y + 1) * width);
      for (const x of [row.indexOf(1), row.lastIndexOf(1)]) {
        if (x < 0) continue;
        const across = turn * y + TURN * x, along = TURN * y - turn * x;
        [minA, maxA] = [Math.min(minA, across), Math.max(maxA, across)];
        [minB, maxB] = [Math.min(minB, along), Math.max(maxB, along)];
      }
    }
    smallest = Math.min(smallest, Math.floor(((maxA - minA + TURN) * (maxB - minB + TURN)) / (TURN ** 2 + turn ** 2)));
  }
  return 100 * area >= 90 * smallest;
}

/** The box of the pixels that are not 0; there is one. @param {Pixels} mask @returns {Box} */
export function boxOf(mask) {
  const { rows, columns } = countLines(mask);
  const isUsed = (/** @type {number} */ count) => count > 0;
  return {
    top: rows.findIndex(isUsed), bottom: rows.findLastIndex(isUsed) + 1,
    left: columns.findIndex(isUsed), right: columns.findLastIndex(isUsed) + 1,
  }; // prettier-ignore
}
