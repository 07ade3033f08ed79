// Windows over gray images, as `convscope.images.framing.morphology`.
import { image, inverted } from "../images/pixels.js";

/** @typedef {import("../images/pixels.js").Pixels} Pixels */

/**
 * The mean of the part of each window that is inside the image, rounded half up.
 * @param {Pixels} gray @param {number} radius
 */
export function localMean({ height, width, data }, radius) {
  const sums = new Float64Array((height + 1) * (width + 1));
  for (let y = 0; y < height; y++) {
    for (let x = 0, row = 0; x < width; x++) {
      row += data[y * width + x];
      sums[(y + 1) * (width + 1) + x + 1] = sums[y * (width + 1) + x + 1] + row;
    }
  }
  const means = new Int32Array(height * width);
  for (let y = 0; y < height; y++) {
    const top = Math.max(y - radius, 0) * (width + 1), bottom = Math.min(y + radius + 1, height) * (width + 1);
    for (let x = 0; x < width; x++) {
      const left = Math.max(x - radius, 0), right = Math.min(x + radius + 1, width);
      const total = sums[bottom + right] - sums[top + right] - sums[bottom + left] + sums[top + left];
      const count = ((bottom - top) / (width + 1)) * (right - left);
      means[y * width + x] = Math.floor((2 * total + count) / (2 * count));
    }
  }
  return means;
}

/** What is light and narrower than a window is removed. @param {Pixels} gray @param {number} radius @returns {Pixels} */
export function opening(gray, radius) {
  const eroded = inverted(largest(extended(inverted(gray), 2 * radius), radius));
  return largest(eroded, radius);
}

/** The largest value at most `radius` rows and columns away. @param {Pixels} values @param {number} radius */
export const dilation = (values, radius) => largest(extended(values, radius), radius);

/** With its border pixels repeated n times outside. @param {Pixels} pixels @param {number} n @returns {Pixels} */
function extended({ height, width, data }, n) {
  const result = image(height + 2 * n, width + 2 * n, 1);
  for (let y = 0, at = 0; y < result.height; y++) {
    const row = Math.min(Math.max(y - n, 0), height - 1) * width;
    for (let x = 0; x < result.width; x++) result.data[at++] = data[row + Math.min(Math.max(x - n, 0), width - 1)];
  }
  return result;
}

/** The largest value of each window inside the image. @param {Pixels} pixels @param {number} radius */
const largest = (pixels, radius) => largestOfRows(largestOfRows(pixels, 2 * radius + 1), 2 * radius + 1);

/**
 * The largest of n rows from each row on, transposed: of 1, 2, 4, ... rows, then of two overlapping parts.
 * @param {Pixels} pixels @param {number} n
 * @returns {Pixels}
 */
function largestOfRows({ height, width, data }, n) {
  let values = data;
  let rows = height;
  const combine = (/** @type {number} */ distance) => {
    rows -= distance;
    const next = new Uint8Array(rows * width);
    for (let i = 0, j = distance * width; i < next.length; i++, j++) {
      const a = values[i], b = values[j];
      next[i] = a > b ? a : b;
    }
    values = next;
  };
  let reach = 1;
  for (; 2 * reach <= n; reach *= 2) combine(reach);
  combine(n - reach);
  const result = image(width, rows, 1);
  for (let y = 0, i = 0; y < rows; y++) for (let x = 0; x < width; x++) result.data[x * rows + y] = values[i++];
  return result;
}

/**
 * Numbers the sets of pixels that touch at sides or corners, in the order of their first pixels by rows.
 * @param {Pixels} mask pixels that are not 0
 * @returns {{labels: Int32Array, count: number}} 1 to count, and 0 outside the mask
 */
export function connectedComponents({ height, width, data }) {
  const labels = new Int32Array(height * width);
  let count = 0;
  for (let start = 0; start < labels.length; start++) {
    if (!data[start] || labels[start]) continue;
    labels[start] = ++count;
    const open = [start];
    for (let at = open.pop(); at !== undefined; at = open.pop()) {
      const row = Math.floor(at / width), column = at % width;
      const bottom = Math.min(row + 1, height - 1), left = Math.max(column - 1, 0), right = Math.min(column + 1, width - 1);
      for (let y = Math.max(row - 1, 0); y <= bottom; y++) {
        for (let x = left; x <= right; x++) {
          const next = y * width + x;
          if (!data[next] || labels[next]) continue;
          labels[next] = count;
          open.push(next);
        }
      }
    }
  }
  return { labels, count };
}
