// PNG files to pixels, as `convscope.images.read` reads them: no color management, no premultiplied alpha.
import { DEEP_NOTE, image } from "./pixels.js";

/** An image that cannot be read; the message says why. */
export class ImageError extends Error {}

/** @typedef {import("./pixels.js").Decoded} Decoded
 * @typedef {{width: number, height: number, depth: number, color: number, interlaced: number, palette: Uint8Array,
 *   clear: Uint8Array | null, orientation: number, parts: Uint8Array[]}} Header */

export const PNG_SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const CHANNELS = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
const PASSES = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]]; // prettier-ignore
const MAX_PIXELS = 25e6;

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/** @param {Uint8Array} bytes */
function checksum(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/**
 * Decodes a PNG. The orientation of its EXIF data is left to the caller.
 * @param {Uint8Array} bytes
 * @returns {Promise<Decoded & {exif: Uint8Array | null}>}
 */
export async function decodePng(bytes) {
  const header = { width: 0, height: 0, depth: 0, color: 0, interlaced: 0, palette: new Uint8Array(), parts: [] };
  /** @type {Header & {exif: Uint8Array | null}} */
  const found = { ...header, clear: null, orientation: 1, exif: null };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let position = 8, kind = ""; kind !== "IEND"; ) {
    if (position + 12 > bytes.length) throw new ImageError("the file is truncated");
    const length = view.getUint32(position);
    if (position + 12 + length > bytes.length) throw new ImageError("the file is truncated");
    kind = String.fromCharCode(...bytes.subarray(position + 4, position + 8));
    const body = bytes.subarray(position + 8, position + 8 + length);
    if (checksum(bytes.subarray(position + 4, position + 8 + length)) !== view.getUint32(position + 8 + length)) {
      throw new ImageError(`wrong checksum in chunk '${kind}'`);
    }
    if (position === 8 && kind !== "IHDR") throw new ImageError("a PNG without a header");
    if (kind === "IHDR") readHeader(found, new DataView(body.buffer, body.byteOffset, body.length));
    if (kind === "PLTE") found.palette = body;
    if (kind === "tRNS") found.clear = body;
    if (kind === "eXIf") found.exif = body;
    if (kind === "IDAT") found.parts.push(body);
    position += 12 + length;
  }
  return { ...toPixels(found, await samplesOf(found)), exif: found.exif };
}

/** @param {Header} header @param {DataView} view */
function readHeader(header, view) {
  if (view.byteLength !== 13) throw new ImageError("a PNG without a header");
  const [width, height] = [view.getUint32(0), view.getUint32(4)];
  const [depth, color, interlaced] = [view.getUint8(8), view.getUint8(9), view.getUint8(12)];
  const depths = { 0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16] }[color];
  if (!depths?.includes(depth) || !width || !height) throw new ImageError("a PNG of a kind that does not exist");
  if (width * height > MAX_PIXELS) {
    throw new ImageError(`${width}x${height} are ${(width * height) / 1e6} megapixels, expected at most 25`);
  }
  Object.assign(header, { width, height, depth, color, interlaced });
}

/** @param {Header} header @returns {number} */
const channelsOf = ({ color }) => CHANNELS[/** @type {keyof typeof CHANNELS} */ (color)];

/** The samples of all pixels, by rows. @param {Header} header */
async function samplesOf(header) {
  const { width, height, depth, interlaced } = header;
  const channels = channelsOf(header);
  const passes = (interlaced ? PASSES : [[0, 0, 1, 1]])
    .map(([left, top, right, down]) => ({ left, top, right, down, columns: Math.ceil((width - left) / right), rows: Math.ceil((height - top) / down) }))
    .filter(({ columns, rows }) => columns > 0 && rows > 0);
  const lengths = passes.map(({ columns }) => Math.ceil((columns * channels * depth) / 8));
  const size = passes.reduce((sum, { rows }, i) => sum + rows * (1 + lengths[i]), 0);
  const data = await inflate(header.parts, size);
  const samples = new Uint16Array(width * height * channels);
  const step = Math.max(1, (channels * depth) >> 3);
  let position = 0;
  passes.forEach((pass, i) => {
    let above = new Uint8Array(lengths[i]);
    for (let row = 0; row < pass.rows; row++) {
      const line = data.subarray(position + 1, position + 1 + lengths[i]);
      unfilter(data[position], line, above, step);
      const start = (pass.top + row * pass.down) * width;
      for (let k = 0; k < pass.columns * channels; k++) {
        const column = pass.left + Math.floor(k / channels) * pass.right;
        samples[(start + column) * channels + (k % channels)] = sample(line, k, depth);
      }
      above = line;
      position += 1 + lengths[i];
    }
  });
  return samples;
}

/** @param {Uint8Array} line @param {number} k @param {number} depth */
function sample(line, k, depth) {
  if (depth === 8) return line[k];
  if (depth === 16) return line[2 * k] * 256 + line[2 * k + 1];
  const bit = k * depth;
  return (line[bit >> 3] >> (8 - depth - (bit & 7))) & ((1 << depth) - 1);
}

/** Decompresses to exactly `size` bytes. @param {Uint8Array[]} parts @param {number} size */
async function inflate(parts, size) {
  const result = new Uint8Array(size);
  const stream = new Blob(/** @type {any} */ (parts)).stream().pipeThrough(new DecompressionStream("deflate"));
  const reader = stream.getReader();
  let count = 0;
  try {
    for (let step = await reader.read(); !step.done && count < size; step = await reader.read()) {
      result.set(step.value.subarray(0, size - count), count);
      count += step.value.length;
    }
  } catch {
    throw new ImageError("the compressed data is damaged");
  }
  if (count < size) throw new ImageError(`${count} of ${size} bytes of pixel data`);
  await reader.cancel().catch(() => {});
  return result;
}

/** Undoes the filter of a line. @param {number} filter @param {Uint8Array} line @param {Uint8Array} above
 * @param {number} step bytes of a pixel */
function unfilter(filter, line, above, step) {
  if (filter > 4) throw new ImageError("the compressed data is damaged");
  for (let i = 0; i < line.length; i++) {
    const left = i < step ? 0 : line[i - step];
    const up = above[i];
    if (filter === 1) line[i] += left;
    else if (filter === 2) line[i] += up;
    else if (filter === 3) line[i] += (left + up) >> 1;
    else if (filter === 4) {
      const corner = i < step ? 0 : above[i - step];
      const [a, b, c] = [Math.abs(up - corner), Math.abs(left - corner), Math.abs(left + up - 2 * corner)];
      line[i] += a <= b && a <= c ? left : b <= c ? up : corner;
    }
  }
}

/** @param {Header} header @param {Uint16Array} samples @returns {Decoded} */
function toPixels(header, samples) {
  const { width, height, depth, color, clear } = header;
  if (color === 3) return fromPalette(header, samples);
  const channels = channelsOf(header);
  const isDeep = depth === 16;
  const factor = depth < 8 ? 255 / ((1 << depth) - 1) : 1;
  const eight = (/** @type {number} */ value) => (isDeep ? value >> 8 : value * factor);
  const notes = isDeep ? [DEEP_NOTE] : depth === 1 && color === 0 && !clear ? ["1 bit expanded to 8"] : [];
  if (depth === 1 && color === 0 && clear) notes.push("1 bit expanded to 8");
  const hasAlpha = channels === 2 || channels === 4 || clear !== null;
  const colors = hasAlpha ? 4 : channels;
  const pixels = image(height, width, colors);
  const key = clear && Array.from({ length: channels }, (_, i) => clear[2 * i] * 256 + clear[2 * i + 1]);
  for (let i = 0; i < width * height; i++) {
    const at = i * channels;
    for (let c = 0; c < Math.min(colors, 3); c++) pixels.data[i * colors + c] = eight(samples[at + (channels < 3 ? 0 : c)]);
    if (!hasAlpha) continue;
    pixels.data[i * 4 + 3] = key ? (isClear(key, samples, at, depth) ? 0 : 255) : eight(samples[at + channels - 1]);
  }
  return { pixels, notes, ...(isDeep && color === 0 ? { deep: samples } : {}) };
}

/** As Pillow compares: of colors with 16 bits, the high byte with the low byte of the transparent color.
 * @param {number[]} key @param {Uint16Array} samples @param {number} at @param {number} depth */
function isClear(key, samples, at, depth) {
  if (key.length === 3 && depth === 16) return key.every((value, c) => samples[at + c] >> 8 === (value & 255));
  return key.every((value, c) => samples[at + c] === value);
}

/** @param {Header} header @param {Uint16Array} samples @returns {Decoded} */
function fromPalette({ width, height, palette, clear }, samples) {
  const channels = clear ? 4 : 3;
  const pixels = image(height, width, channels);
  samples.forEach((index, i) => {
    for (let c = 0; c < 3; c++) pixels.data[i * channels + c] = palette[index * 3 + c] ?? 0;
    if (clear) pixels.data[i * 4 + 3] = clear[index] ?? 255;
  });
  return { pixels, notes: ["palette expanded"] };
}
