// The orientation of an image: EXIF 2.32, tag 274.
import { image } from "./pixels.js";

/** @typedef {import("./pixels.js").Decoded} Decoded */

const ORIENTATION = 274;

/** 1 to 8; 1 if there is none, or the data is damaged. @param {Uint8Array} exif from its TIFF header on */
export function readOrientation(exif) {
  const view = new DataView(exif.buffer, exif.byteOffset, exif.byteLength);
  const little = exif[0] === 0x49;
  try {
    const start = view.getUint32(4, little);
    const count = view.getUint16(start, little);
    for (let entry = start + 2; entry < start + 2 + 12 * count; entry += 12) {
      if (view.getUint16(entry, little) !== ORIENTATION) continue;
      const value = view.getUint16(entry + 8, little);
      return value >= 1 && value <= 8 ? value : 1;
    }
  } catch {
    return 1;
  }
  return 1;
}

/**
 * An image turned upright.
 * @param {Decoded} decoded @param {number} orientation 2 to 8 @param {string} note
 * @returns {Decoded}
 */
export function turned({ pixels, notes, deep }, orientation, note) {
  const { height, width, channels, data } = pixels;
  const swaps = orientation > 4;
  const result = swaps ? image(width, height, channels) : image(height, width, channels);
  const moved = deep && new Uint16Array(deep.length);
  for (let y = 0; y < result.height; y++) {
    for (let x = 0; x < result.width; x++) {
      let [row, column] = swaps ? [x, y] : [y, x];
      if ([3, 4, 6, 7].includes(orientation)) row = height - 1 - row;
      if ([2, 3, 7, 8].includes(orientation)) column = width - 1 - column;
      const from = row * width + column, to = y * result.width + x;
      for (let c = 0; c < channels; c++) result.data[to * channels + c] = data[from * channels + c];
      if (moved && deep) moved[to] = deep[from];
    }
  }
  return { pixels: result, notes: [note, ...notes], ...(moved ? { deep: moved } : {}) };
}
