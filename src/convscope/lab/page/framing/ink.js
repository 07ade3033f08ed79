// The ink of a gray image apart from its paper, as `convscope.images.framing.ink`; docs/framing.md has the steps.
import { between, histogram, inverted, lowerQuantile, mapLevels, otsuThreshold, ring } from "../images/pixels.js";
import { connectedComponents, dilation, localMean, opening } from "./morphology.js";
import { boxOf, cutBox, findSheet, insideRectangle, reduceGray } from "./surroundings.js";

/**
 * @typedef {import("../images/pixels.js").Pixels} Pixels
 *
 * Levels of ink, cut to its box: 0 paper, 255 full ink; rows and columns are those of the box in the original image.
 * @typedef {{levels: Pixels, dark: boolean, rows: number, columns: number}} Ink
 */

/** Null if nothing stands out. @param {Pixels} original @returns {Ink | null} */
export function findInk(original) {
  const gray = reduceGray(original);
  const inside = insideRectangle(gray);
  let found = inside && separate(cutBox(gray, inside));
  if (!found) {
    const sheet = findSheet(gray);
    found = sheet && separate(sheet);
  }
  found ??= separate(gray);
  if (!found) return null;
  const { height, width } = found.levels;
  const rows = Math.ceil((height * original.height) / gray.height);
  const columns = Math.ceil((width * original.width) / gray.width);
  return { ...found, rows, columns };
}

/** @param {Pixels} gray */
const radiusOf = ({ height, width }) => Math.max(1, Math.floor(Math.max(height, width) / 4));

/** Above 0 if the ink is darker than its paper. @param {Pixels} gray
 * @param {Uint8Array} opened the opening of it @param {Uint8Array} closed that of its negative */
function darkness(gray, opened, closed) {
  const { data } = gray;
  const mean = localMean(gray, radiusOf(gray));
  let cubes = 0, sizes = 0, light = 0, dark = 0;
  for (let i = 0; i < data.length; i++) {
    const distance = data[i] - mean[i], cube = distance * distance * distance;
    cubes += cube;
    sizes += Math.abs(cube);
    light += data[i] - opened[i];
    dark += 255 - closed[i] - data[i];
  }
  const border = ring(gray), threshold = otsuThreshold(histogram(data));
  const lightBorder = border.reduce((sum, value) => sum + (value > threshold ? 1 : 0), 0);
  return Math.floor((-1000 * cubes) / (sizes + 1)) + Math.floor((2000 * lightBorder) / border.length) - 1000 +
    Math.floor((500 * (dark - light)) / (dark + light + 1)); // prettier-ignore
}

/** @param {Pixels} gray */
function separate(gray) {
  const { height, width } = gray;
  const sides = [gray, inverted(gray)];
  const [above, below] = sides.map((side) => opening(side, radiusOf(gray)).data);
  const dark = darkness(gray, above, below) > 0;
  const [lightInk, opened] = dark ? [sides[1], below] : [sides[0], above];
  const raised = { ...gray, data: lightInk.data.map((value, i) => value - opened[i]) };
  const counts = histogram(raised.data);
  const { threshold, base, noise } = paperOf(counts);
  const full = lowerQuantile(between(counts, threshold, 255), 1, 2); // 0 without ink
  if (full - base < 8) return null;
  const faint = base + Math.max(Math.floor((full - base) / 8), 2 * noise);
  const isInk = mapLevels(raised, (value) => value > threshold);
  const near = dilation(isInk, Math.max(2, Math.floor(Math.max(height, width) / 40))).data;
  const levels = mapLevels(raised, (value) => Math.min(Math.max(Math.floor(((value - base) * 255) / (full - base)), 0), 255));
  const mask = mapLevels(raised, (value) => value > faint);
  for (let i = 0; i < near.length; i++) mask.data[i] *= near[i];
  const kept = mainComponents(mask, isInk.data, levels.data);
  const inked = { ...levels, data: levels.data.map((level, i) => (kept[i] ? level : 0)) };
  return { levels: cutBox(inked, boxOf(inked)), dark };
}

/** @param {Uint32Array} counts of the raised levels */
function paperOf(counts) {
  let threshold = otsuThreshold(counts), base = 0, noise = 0;
  for (let i = 0; i < 2; i++) {
    const paper = between(counts, -1, threshold);
    base = lowerQuantile(paper, 1, 2);
    noise = base - lowerQuantile(paper, 1, 10);
    threshold = Math.max(threshold, base + 4 * noise);
  }
  return { threshold, base, noise };
}

/**
 * Which pixels are in components with ink that are neither specks nor lines.
 * @param {Pixels} mask @param {Uint8Array} isInk @param {Uint8Array} levels
 */
function mainComponents(mask, isInk, levels) {
  const { labels, sizes } = connectedComponents(mask);
  const masses = sizes.map(() => 0), inked = sizes.map(() => false);
  for (let i = 0; i < labels.length; i++) {
    masses[labels[i]] += levels[i];
    if (isInk[i]) inked[labels[i]] = true;
  }
  const own = masses.map((mass, label) => (label && inked[label] ? mass : 0));
  const lines = areLines(labels, sizes.length, mask);
  const others = own.map((mass, label) => (lines[label] ? 0 : mass));
  const largest = (/** @type {number[]} */ list) => list.reduce((a, b) => Math.max(a, b), 0);
  const chosen = 8 * largest(others) >= largest(own) ? others : own;
  const limit = largest(chosen);
  return labels.map((label) => (chosen[label] > 0 && 16 * chosen[label] >= limit ? 1 : 0));
}

/** Which components go across the image, and are narrow or avoid its middle. @param {Int32Array} labels
 * @param {number} count of labels, with 0 @param {Pixels} size */
function areLines(labels, count, { height, width }) {
  const boxes = Array.from({ length: count }, () => ({ top: height, bottom: -1, left: width, right: -1, middle: false }));
  const [top, left] = [Math.floor(height / 4), Math.floor(width / 4)];
  labels.forEach((label, i) => {
    if (!label) return;
    const y = Math.floor(i / width), x = i % width;
    const box = boxes[label];
    box.top = Math.min(box.top, y);
    box.bottom = Math.max(box.bottom, y);
    box.left = Math.min(box.left, x);
    box.right = Math.max(box.right, x);
    if (y >= top && y < height - top && x >= left && x < width - left) box.middle = true;
  });
  return boxes.map((box) => {
    const rows = box.bottom - box.top + 1, columns = box.right - box.left + 1;
    const isLong = 8 * rows >= 7 * height || 8 * columns >= 7 * width;
    const isNarrow = 8 * rows <= height || 8 * columns <= width;
    return isLong && (isNarrow || !box.middle);
  });
}
