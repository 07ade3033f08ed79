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
  return largest(inverted(largest(inverted(gray), radius, 2 * radius)), radius, 0);
}

/** The largest value at most `radius` rows and columns away. @param {Pixels} values @param {number} radius */
export const dilation = (values, radius) => largest(values, radius, radius);

/** The largest value of each window inside the image, with its border pixels repeated `extra` times outside.
 * @param {Pixels} pixels @param {number} radius @param {number} extra */
const largest = (pixels, radius, extra) => largestOfRows(largestOfRows(pixels, radius, extra), radius, extra);

/**
 * The largest of each 2 * radius + 1 rows, transposed. The rows are divided into blocks of that size, so a window is the
 * end of one block and the beginning of the next (van Herk, 1992).
 * @param {Pixels} pixels @param {number} radius @param {number} extra
 * @returns {Pixels}
 */
function largestOfRows({ height, width, data }, radius, extra) {
  const size = 2 * radius + 1, rows = height + 2 * extra, last = rows - 1;
  const begins = new Uint8Array(rows * width), ends = begins.slice();
  const running = (/** @type {Uint8Array} */ into, /** @type {number} */ y, /** @type {number} */ before) => {
    let from = Math.min(Math.max(y - extra, 0), height - 1) * width;
    for (let to = y * width, old = before * width, end = to + width; to < end; to++, old++, from++) {
      into[to] = Math.max(data[from], into[old]);
    }
  };
  for (let y = 0; y < rows; y++) running(begins, y, y % size ? y - 1 : y);
  for (let y = last; y >= 0; y--) running(ends, y, (y + 1) % size && y < last ? y + 1 : y);
  const count = rows - 2 * radius;
  const result = image(width, count, 1);
  for (let y = 0, at = 0, end = 2 * radius * width; y < count; y++) {
    for (let to = y; to < result.data.length; to += count, at++, end++) result.data[to] = Math.max(ends[at], begins[end]);
  }
  return result;
}

/**
 * Numbers the sets of pixels that touch at sides or corners, in the order of their first pixels by rows.
 * @param {Pixels} mask pixels that are not 0
 * @returns {{labels: Int32Array, sizes: number[]}} 1, 2, ..., and 0 outside the mask; how many pixels have each, 0 outside
 */
export function connectedComponents(mask) {
  const labels = new Int32Array(mask.data.length);
  const sizes = [0];
  for (let start = 0; start < labels.length; start++) {
    const size = fill(mask, labels, start, sizes.length);
    if (size) sizes.push(size);
  }
  return { labels, sizes };
}

/** Labels the pixels that touch one, itself included, if it is in the mask and has no label; how many they are.
 * @param {Pixels} mask @param {Int32Array} labels @param {number} start @param {number} label */
export function fill({ height, width, data }, labels, start, label) {
  if (!data[start] || labels[start]) return 0;
  const open = [start];
  labels[start] = label;
  for (let i = 0; i < open.length; i++) {
    const row = Math.floor(open[i] / width), column = open[i] - row * width;
    const bottom = Math.min(row + 1, height - 1), left = Math.max(column - 1, 0), right = Math.min(column + 1, width - 1);
    for (let y = Math.max(row - 1, 0); y <= bottom; y++) {
      for (let next = y * width + left; next <= y * width + right; next++) {
        if (!data[next] || labels[next]) continue;
        labels[next] = label;
        open.push(next);
      }
    }
  }
  return open.length;
}
