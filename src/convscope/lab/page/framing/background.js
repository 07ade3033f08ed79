// Gray images of sets without a frame, as `convscope.images.framing.background`.
import { borderLevel, histogram, lowerQuantile, mapLevels } from "../images/pixels.js";
import { boxOf, cutBox, insideRectangle, reduceGray } from "./surroundings.js";

/**
 * @typedef {import("../images/pixels.js").Pixels} Pixels
 * @typedef {import("./surroundings.js").Box} Box
 * @typedef {{level: number, fills: boolean}} Background
 */

/** What is kept of an image, and if a margin was cut, the part around it, reduced; null if all is kept.
 * @param {Background} background @param {Pixels} gray @returns {{box: Box, around: Pixels | null} | null} */
export function cropSurroundings(background, gray) {
  const reduced = reduceGray(gray);
  const { height, width } = reduced;
  let inside = insideRectangle(reduced);
  if (!inside || !hasSubject(reduced, inside)) inside = { top: 0, bottom: height, left: 0, right: width };
  const around = inside;
  if (background.fills) inside = withoutMargin(reduced, inside);
  if (inside.bottom - inside.top === height && inside.right - inside.left === width) return null;
  const [top, bottom] = enlarged(inside.top, inside.bottom, gray.height, height);
  const [left, right] = enlarged(inside.left, inside.right, gray.width, width);
  return { box: { top, bottom, left, right }, around: inside === around ? null : cutBox(reduced, around) };
}

/** @param {number} start @param {number} stop @param {number} side @param {number} small */
function enlarged(start, stop, side, small) {
  const first = Math.floor((start * side) / small);
  return [first, Math.max(first + 1, Math.floor((stop * side) / small))];
}

/** A background lighter than those of the training images becomes black; null if it is not.
 * @param {Background} background @param {Pixels} gray light on black @param {Pixels} around what has the background as its
 * border @returns {Pixels | null} */
export function stretchContrast(background, gray, around) {
  const level = borderLevel(around), counts = histogram(gray.data);
  if (level <= background.level || 2 * lowerQuantile(counts, 1, 20) < level) return null;
  const contrast = lowerQuantile(counts, 99, 100) - level;
  if (contrast < 8) return null;
  return mapLevels(gray, (value) => Math.min(Math.max(Math.floor(((value - level) * 255) / contrast), 0), 255));
}

/** @param {Pixels} gray @param {Box} inside */
function hasSubject(gray, inside) {
  const part = cutBox(gray, inside), counts = histogram(part.data);
  const contrast = lowerQuantile(counts, 19, 20) - lowerQuantile(counts, 1, 20);
  return 4 * contrast >= Math.abs(borderLevel(gray) - borderLevel(part));
}

/** @param {Pixels} gray @param {Box} inside @returns {Box} */
function withoutMargin(gray, inside) {
  const part = cutBox(gray, inside);
  const border = borderLevel(part);
  const largest = part.data.reduce((most, value) => Math.max(most, Math.abs(value - border)), 0);
  const limit = Math.max(16, Math.floor(largest / 8));
  const { top, bottom, left, right } = boxOf(mapLevels(part, (value) => Math.abs(value - border) > limit));
  if (!bottom || 8 * Math.max(bottom - top, right - left) >= 7 * Math.max(part.height, part.width)) return inside;
  return { top: inside.top + top, bottom: inside.top + bottom, left: inside.left + left, right: inside.left + right };
}
