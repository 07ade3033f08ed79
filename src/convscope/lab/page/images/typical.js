// Whether an image clearly differs from the training images: the twin of `convscope.images.comparison`.
import { histogram, lowerQuantile, ring, toGray } from "./pixels.js";

/** @typedef {import("./pixels.js").Pixels} Pixels */

const PARTS = 16; // of a gray level
const WORDS = [["darker", "brighter"], ["lower contrast", "higher contrast"], ["blurred", "more detail"], ["plainer border", "busier border"], ["less color", "more color"]];

/** @param {Record<string, number[]>} typical the lowest, low, high and highest value of each feature
 * @param {Pixels} pixels what the network sees @returns {string[]} a note, or none */
export function unlikeNotes(typical, pixels) {
  const found = features(pixels);
  const differences = ["brightness", "contrast", "detail", "border", "color"].flatMap((name, i) => {
    const [lowest, , , highest] = Object.values(typical[name]);
    const slack = Math.floor((highest - lowest) / 4);
    if (found[i] >= lowest - slack && found[i] <= highest + slack) return [];
    const [value, low, high] = [found[i], lowest, highest].map((one) => Math.floor(one / PARTS));
    return [`${WORDS[i][found[i] < lowest ? 0 : 1]} (${name} ${value}, training images ${low} to ${high})`];
  });
  return differences.length ? [`unlike the training images: ${differences.join(", ")}`] : [];
}

/** Brightness, contrast, detail, border and color, in 1/16 gray level, rounded down. @param {Pixels} pixels */
function features({ height, width, channels, data }) {
  const size = height * width;
  const colors = (/** @type {number} */ i) => data.subarray(i * channels, i * channels + Math.min(channels, 3));
  const rgb = channels === 4 ? Uint8Array.from({ length: 3 * size }, (_, i) => data[Math.floor(i / 3) * 4 + (i % 3)]) : data;
  const gray = channels === 1 ? { height, width, channels, data } : toGray({ height, width, channels: 3, data: rgb });
  let sum = 0, contrast = 0, steps = 0, color = 0;
  for (let i = 0; i < size; i++) sum += gray.data[i];
  const brightness = Math.floor((PARTS * sum) / size), level = Math.floor(brightness / PARTS);
  for (let i = 0; i < size; i++) {
    contrast += Math.abs(gray.data[i] - level);
    if ((i + 1) % width) steps += Math.abs(gray.data[i + 1] - gray.data[i]);
    if (i + width < size) steps += Math.abs(gray.data[i + width] - gray.data[i]);
    if (channels > 1) color += Math.max(...colors(i)) - Math.min(...colors(i));
  }
  const edge = ring(gray), middle = lowerQuantile(histogram(edge), 1, 2);
  const border = edge.reduce((/** @type {number} */ total, /** @type {number} */ one) => total + Math.abs(one - middle), 0);
  return [
    brightness, ...[[contrast, size], [steps, 2 * size], [border, edge.length], [color, size]].map(([total, count]) => Math.floor((PARTS * total) / count)),
  ]; // prettier-ignore
}
