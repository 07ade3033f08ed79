// Any image file to upright pixels: PNG by the page's own decoder, other formats by the browser's.
import { readOrientation, turned } from "./exif.js";
import { image } from "./pixels.js";
import { ImageError, PNG_SIGNATURE, decodePng } from "./png.js";

/** @typedef {import("./pixels.js").Decoded} Decoded */

const TURNED_NOTE = "rotated by its EXIF orientation";
const MAX_PIXELS = 25e6;

/** @param {Uint8Array} bytes a whole file @returns {Promise<Decoded>} */
export async function decodeImage(bytes) {
  if (!bytes.length) throw new ImageError("the file is empty");
  if (PNG_SIGNATURE.every((byte, i) => bytes[i] === byte)) {
    const { exif, ...decoded } = await decodePng(bytes);
    const orientation = exif ? readOrientation(exif) : 1;
    return orientation > 1 ? turned(decoded, orientation, TURNED_NOTE) : decoded;
  }
  return decodeByBrowser(bytes);
}

/** @param {Uint8Array} bytes @returns {Promise<Decoded>} */
async function decodeByBrowser(bytes) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([/** @type {any} */ (bytes)]), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new ImageError("not an image that this browser can read, or damaged: save it as PNG or JPEG");
  }
  const { width, height } = bitmap;
  if (width * height > MAX_PIXELS) {
    throw new ImageError(`${width}x${height} are ${(width * height) / 1e6} megapixels, expected at most 25`);
  }
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new ImageError("this browser offers no canvas");
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  const isJpeg = bytes[0] === 0xff && bytes[1] === 0xd8;
  const notes = isJpeg && readOrientation(exifOfJpeg(bytes)) > 1 ? [TURNED_NOTE] : [];
  const opaque = data.every((value, i) => i % 4 !== 3 || value === 255);
  if (!opaque) return { pixels: image(height, width, 4, Uint8Array.from(data)), notes };
  const pixels = image(height, width, 3);
  for (let i = 0, at = 0; i < data.length; i++) if (i % 4 !== 3) pixels.data[at++] = data[i];
  return { pixels, notes };
}

/** The EXIF data of a JPEG; empty without. @param {Uint8Array} bytes */
function exifOfJpeg(bytes) {
  for (let at = 2; at + 4 < bytes.length && bytes[at] === 0xff; ) {
    const length = bytes[at + 2] * 256 + bytes[at + 3];
    const isExif = bytes[at + 1] === 0xe1 && String.fromCharCode(...bytes.subarray(at + 4, at + 8)) === "Exif";
    if (isExif) return bytes.subarray(at + 10, at + 2 + length);
    if (bytes[at + 1] === 0xda) break;
    at += 2 + length;
  }
  return new Uint8Array();
}
