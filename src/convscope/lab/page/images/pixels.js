// Decoded images and the color steps of preprocessing, as `convscope.images.color`, `.depth` and `.statistics`.

/**
 * An image of 8 bits: data is (height, width, channels), channels 1 gray, 3 RGB or 4 RGBA.
 * @typedef {{height: number, width: number, channels: number, data: Uint8Array}} Pixels
 *
 * @typedef {object} Decoded
 * @property {Pixels} pixels upright
 * @property {string[]} notes how the stored pixels were changed
 * @property {Uint16Array} [deep] the gray values of a 16-bit file; `pixels` has their high bytes
 */

export const DEEP_NOTE = "16 bit reduced to 8";

/** @param {number} height @param {number} width @param {number} channels @param {Uint8Array} [data] @returns {Pixels} */
export const image = (height, width, channels, data) => ({
  height, width, channels, data: data ?? new Uint8Array(height * width * channels),
}); // prettier-ignore

/** A rectangle of an image. @param {Pixels} pixels @param {number} top @param {number} bottom @param {number} left
 * @param {number} right @returns {Pixels} */
export function cut(pixels, top, bottom, left, right) {
  const { width, channels, data } = pixels;
  const result = image(bottom - top, right - left, channels);
  const length = (right - left) * channels;
  for (let row = top; row < bottom; row++) {
    const from = (row * width + left) * channels;
    result.data.set(data.subarray(from, from + length), (row - top) * length);
  }
  return result;
}

/** Each level replaced. @param {Pixels} pixels @param {(level: number) => number | boolean} f @returns {Pixels} */
export function mapLevels(pixels, f) {
  const table = new Uint8Array(256), data = new Uint8Array(pixels.data.length);
  for (let level = 0; level < 256; level++) table[level] = Number(f(level));
  for (let i = 0; i < data.length; i++) data[i] = table[pixels.data[i]];
  return { ...pixels, data };
}

/** @param {Pixels} pixels */
export const inverted = (pixels) => mapLevels(pixels, (level) => 255 - level);

/**
 * Step 0: a range of 16-bit values to 0..255.
 * @param {Decoded} decoded @param {[number, number]} range
 * @returns {Decoded}
 */
export function withRange(decoded, [low, high]) {
  const { deep, pixels } = decoded;
  if (!deep || (low === 0 && high === 65535)) return decoded;
  const { channels } = pixels;
  const data = pixels.data.slice();
  let clipped = false;
  for (let i = 0; i < deep.length; i++) {
    clipped ||= deep[i] < low || deep[i] > high;
    const value = Math.floor(((Math.min(Math.max(deep[i], low), high) - low) * 256) / (high - low + 1));
    for (let c = 0; c < Math.min(channels, 3); c++) data[i * channels + c] = value;
  }
  const note = `16-bit values ${low}..${high} mapped to 0..255${clipped ? ", others clipped" : ""}`;
  const notes = decoded.notes.map((old) => (old === DEEP_NOTE ? note : old));
  return { ...decoded, pixels: { ...pixels, data }, notes };
}

/**
 * Steps 1 and 2: alpha over white, color to gray, gray to color.
 * @param {Pixels} pixels @param {number} channels of the result @param {string[]} notes are added
 * @returns {Pixels}
 */
export function convertChannels(pixels, channels, notes) {
  let result = pixels;
  if (channels < 4 && result.channels === 4) {
    if (result.data.some((value, i) => i % 4 === 3 && value < 255)) notes.push("transparency composited over white");
    result = overWhite(result);
  }
  if (channels === 1 && result.channels === 3) {
    const { data } = result;
    if (data.some((value, i) => value !== data[i - (i % 3)])) notes.push("converted to gray");
    result = toGray(result);
  }
  const { height, width, channels: k, data } = result;
  if (channels === k) return result;
  const wide = image(height, width, channels);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < channels; c++) wide.data[i * channels + c] = c === 3 ? 255 : data[i * k + (k === 1 ? 0 : c)];
  }
  return wide;
}

/** @param {Pixels} pixels RGBA @returns {Pixels} RGB */
export function overWhite({ height, width, data }) {
  const result = image(height, width, 3);
  for (let i = 0, to = 0; i < data.length; i += 4) {
    const alpha = data[i + 3];
    const white = 255 * (255 - alpha) + 127;
    for (let c = 0; c < 3; c++) result.data[to++] = Math.floor((data[i + c] * alpha + white) / 255);
  }
  return result;
}

/** @param {Pixels} pixels RGB @returns {Pixels} luma, ITU-R BT.601 */
export function toGray({ height, width, data }) {
  const result = image(height, width, 1);
  for (let i = 0, at = 0; at < result.data.length; i += 3) {
    result.data[at++] = Math.floor((299 * data[i] + 587 * data[i + 1] + 114 * data[i + 2] + 500) / 1000);
  }
  return result;
}

/** The values of the first and last row and column of a gray image. @param {Pixels} pixels @returns {Uint8Array} */
export function ring({ height, width, data }) {
  const found = [];
  for (let row = 0; row < height; row++) {
    const step = row === 0 || row === height - 1 || width < 2 ? 1 : width - 1;
    for (let column = 0; column < width; column += step) found.push(data[row * width + column]);
  }
  return Uint8Array.from(found);
}

/** How often each value occurs. @param {Uint8Array} values */
export function histogram(values) {
  const counts = new Uint32Array(256);
  for (let i = 0; i < values.length; i++) counts[values[i]]++;
  return counts;
}

/** The counts of the levels above one, up to another. @param {Uint32Array} counts @param {number} low @param {number} high */
export const between = (counts, low, high) => counts.map((count, level) => (level > low && level <= high ? count : 0));

/** @param {Uint32Array} counts */
const total = (counts) => counts.reduce((a, b) => a + b);

/** Number (k - 1) * numerator // denominator of k sorted values. @param {Uint32Array} counts of the values
 * @param {number} numerator @param {number} denominator */
export function lowerQuantile(counts, numerator, denominator) {
  let rest = Math.floor(((total(counts) - 1) * numerator) / denominator);
  for (let level = 0; level < 256; level++) {
    if (rest < counts[level]) return level;
    rest -= counts[level];
  }
  return 255;
}

/** @param {Pixels} gray the lower median of its first and last row and column */
export const borderLevel = (gray) => lowerQuantile(histogram(ring(gray)), 1, 2);

/** Otsu's threshold (docs/framing.md). @param {Uint32Array} counts of the values */
export function otsuThreshold(counts) {
  const n = total(counts), whole = counts.reduce((sum, count, level) => sum + count * level, 0);
  let best = -1, threshold = 255, below = 0, sum = 0;
  for (let level = 0; level < 255; level++) {
    below += counts[level];
    sum += counts[level] * level;
    const above = n - below;
    if (!below || !above) continue;
    const distance = Math.floor((16 * (whole - sum)) / above) - Math.floor((16 * sum) / below);
    const variance = Math.floor((16384 * below) / n) * Math.floor((16384 * above) / n) * distance ** 2;
    if (variance > best) [best, threshold] = [variance, level];
  }
  return threshold;
}

/** Whether there is one level. @param {Uint32Array} counts */
export const isEven = (counts) => counts.indexOf(total(counts)) >= 0;

/** Step 5: whether the background of a gray image is light. @param {Pixels} gray */
export function hasLightBackground(gray) {
  const border = borderLevel(gray);
  const counts = histogram(gray.data);
  return border > (isEven(counts) ? 127 : otsuThreshold(counts));
}
