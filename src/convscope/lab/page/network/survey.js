// What a network computes for many images: their features, and where each channel of each layer is largest.
import { fromHalf } from "../onnx/tensor.js";

/**
 * @typedef {{features: Float32Array | null, peaks: Map<string, {largest: Float32Array, at: Int32Array}>}} Surveyed an
 *   image: its features of length 1, and for each stage by channel the largest value and its place in the map
 * @typedef {{index: number, score: number, at: number}} Found an image; score: a value, or a cosine distance
 */

/** @param {import("./session.js").Session} session @param {Uint8Array} pixels of the network's size @returns {Surveyed} */
export function survey(session, pixels) {
  const values = session.compute(pixels);
  const features = values.get("features");
  const peaks = new Map(session.stages.map(({ value, shape: [channels] }) => {
    const data = values.get(value)?.data ?? new Float32Array();
    const cells = data.length / channels;
    const largest = new Float32Array(channels).fill(-Infinity), at = new Int32Array(channels);
    for (let i = 0; i < data.length; i++) {
      const channel = Math.floor(i / cells);
      if (data[i] <= largest[channel]) continue;
      largest[channel] = data[i];
      at[channel] = i % cells;
    }
    return [value, { largest, at }];
  })); // prettier-ignore
  return { features: features ? toUnit(Float32Array.from(features.data)) : null, peaks };
}

/** The images for which a channel is largest. @param {Surveyed[]} surveyed @param {import("../ops/execute.js").Channel} channel
 * @param {number} count @returns {Found[]} */
export function strongest(surveyed, { value, channel }, count) {
  const found = surveyed.map(({ peaks }, index) => {
    const { largest, at } = peaks.get(value) ?? { largest: [], at: [] };
    return { index, score: largest[channel], at: at[channel] };
  });
  return found.sort((a, b) => b.score - a.score).slice(0, count);
}

/** The rows with the smallest cosine distance, 1 - cosine. @param {Float32Array[]} rows of length 1
 * @param {ArrayLike<number>} features @param {number} count @returns {Found[]} */
export function nearest(rows, features, count) {
  const unit = toUnit(Float32Array.from(features));
  const found = rows.map((row, index) => ({ index, score: Math.max(0, 1 - row.reduce((sum, value, i) => sum + value * unit[i], 0)), at: 0 }));
  return found.sort((a, b) => a.score - b.score).slice(0, count);
}

/** Rows of 16-bit floats. @param {ArrayBuffer} buffer @param {number} width */
export function readFeatures(buffer, width) {
  const values = Float32Array.from(new Uint16Array(buffer), fromHalf);
  return Array.from({ length: values.length / width }, (_, i) => toUnit(values.subarray(i * width, (i + 1) * width)));
}

/** @param {Float32Array} row that gets the length 1 */
function toUnit(row) {
  const length = Math.hypot(...row) || 1;
  return row.map((value) => value / length);
}
