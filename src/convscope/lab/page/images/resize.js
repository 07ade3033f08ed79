// Step 4 of preprocessing, as `convscope.images.resize`: a triangle filter in integers, widened when shrinking.
import { image } from "./pixels.js";

/** @typedef {import("./pixels.js").Pixels} Pixels */

/** @param {Pixels} pixels @param {number} height @param {number} width @returns {Pixels} */
export function resize(pixels, height, width) {
  return resizeColumns(resizeRows(pixels, height), width);
}

/** The largest size of the same aspect ratio inside a limit. @param {number} height @param {number} width
 * @param {number} maxHeight @param {number} maxWidth */
export function fitInside(height, width, maxHeight, maxWidth) {
  if (height * maxWidth <= maxHeight * width) {
    return [Math.max(1, Math.floor((2 * height * maxWidth + width) / (2 * width))), maxWidth];
  }
  return [maxHeight, Math.max(1, Math.floor((2 * width * maxHeight + height) / (2 * height)))];
}

/**
 * For each of m outputs of n inputs: the first input with a weight, the weights, and their sum.
 * @param {number} n @param {number} m
 */
function outputWeights(n, m) {
  const reach = 2 * Math.max(n, m);
  return Array.from({ length: m }, (_, i) => {
    const weight = (/** @type {number} */ j) => Math.max(0, reach - Math.abs((2 * i + 1) * n - (2 * j + 1) * m));
    // The weights are positive while |(2i+1)n - (2j+1)m| < reach.
    let first = Math.max(0, Math.floor((((2 * i + 1) * n - reach) / m - 1) / 2));
    while (first < n - 1 && !weight(first)) first++;
    const weights = [];
    for (let j = first; j < n && weight(j); j++) weights.push(weight(j));
    return { first, weights, total: weights.reduce((a, b) => a + b, 0) };
  });
}

/** @param {Pixels} pixels @param {number} m @returns {Pixels} */
function resizeRows(pixels, m) {
  const { height: n, width, channels, data } = pixels;
  if (m === n) return pixels;
  const length = width * channels;
  const result = image(m, width, channels);
  const sums = new Float64Array(length);
  outputWeights(n, m).forEach(({ first, weights, total }, i) => {
    sums.fill(0);
    weights.forEach((weight, j) => {
      for (let x = 0, at = (first + j) * length; x < length; x++) sums[x] += weight * data[at++];
    });
    for (let x = 0; x < length; x++) result.data[i * length + x] = Math.floor((2 * sums[x] + total) / (2 * total));
  });
  return result;
}

/** @param {Pixels} pixels @param {number} m @returns {Pixels} */
function resizeColumns(pixels, m) {
  const { height, width: n, channels, data } = pixels;
  if (m === n) return pixels;
  const result = image(height, m, channels);
  outputWeights(n, m).forEach(({ first, weights, total }, i) => {
    for (let row = 0; row < height; row++) {
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (let j = 0, at = (row * n + first) * channels + c; j < weights.length; j++, at += channels) {
          sum += weights[j] * data[at];
        }
        result.data[(row * m + i) * channels + c] = Math.floor((2 * sum + total) / (2 * total));
      }
    }
  });
  return result;
}
