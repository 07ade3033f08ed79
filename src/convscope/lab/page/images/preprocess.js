// From a decoded image to the network's pixels, bit for bit as `convscope.images.preprocessing`.
import { cropSurroundings, stretchContrast } from "../framing/background.js";
import { isFramed, placeInk } from "../framing/frame.js";
import { findInk } from "../framing/ink.js";
import { convertChannels, cut, hasLightBackground, image, inverted, withRange } from "./pixels.js";
import { fitInside, resize } from "./resize.js";

/**
 * @typedef {import("./pixels.js").Pixels} Pixels
 * @typedef {import("./pixels.js").Decoded} Decoded
 *
 * The preprocessing record of a model file; docs/model-file.md.
 * @typedef {object} Preprocessing
 * @property {number} height
 * @property {number} width
 * @property {number} channels
 * @property {"letterbox" | "crop" | "stretch"} fit
 * @property {number[]} fill
 * @property {"dark" | "light" | "mixed"} polarity
 * @property {import("../framing/frame.js").Frame | null} [frame]
 * @property {import("../framing/background.js").Background | null} [background]
 * @property {[number, number]} [uint16_range]
 * @property {number[]} scale
 * @property {number[]} mean
 * @property {Record<string, number[]> | null} [typical] see typical.js
 *
 * @typedef {{name: string, pixels: Pixels}} Step what an image looked like after a step
 */

/**
 * @param {Preprocessing} record
 * @param {Decoded} decoded
 * @returns {{pixels: Pixels, notes: string[], steps: Step[]}}
 */
export function preprocess(record, decoded) {
  const ranged = withRange(decoded, record.uint16_range ?? [0, 65535]);
  const notes = [...ranged.notes];
  const pixels = convertChannels(ranged.pixels, record.channels, notes);
  const steps = [{ name: record.channels === 1 ? "gray" : "color", pixels }];
  const fitted = fit(record, pixels);
  if (record.frame && !isFramed(onBlack(fitted.pixels, record), record.frame)) {
    const ink = findInk(pixels);
    if (ink) {
      const framed = onBlack(placeInk(ink, record.frame, record.height, record.width), record);
      steps.push({ name: "ink", pixels: ink.levels }, { name: "framed", pixels: framed });
      return { pixels: framed, notes: [...notes, ...framingNotes(record, ink)], steps };
    }
  }
  return { pixels: fitted.pixels, notes: [...notes, ...fitted.notes], steps: [...steps, ...fitted.steps] };
}

/** Steps 3 to 6. @param {Preprocessing} record @param {Pixels} pixels */
function fit(record, pixels) {
  let result = pixels;
  /** @type {string[]} */
  const notes = [];
  /** @type {Step[]} */
  const steps = [];
  const keep = (/** @type {string} */ name, /** @type {Pixels} */ changed, /** @type {string} */ note) => {
    if (changed === result) return;
    result = changed;
    notes.push(note);
    steps.push({ name, pixels: changed });
  };
  const size = ({ height, width } = result) => `${width}x${height}`;
  const { inside, around } = cutSurroundings(record, result);
  keep("cut out", inside, `cut out of its surroundings ${size()} -> ${size(inside)}`);
  const cropped = crop(record, result);
  keep("cropped", cropped, `cropped ${size()} -> ${size(cropped)}`);
  const { height, width } = record;
  const [rows, columns] = record.fit === "stretch" ? [height, width] : fitInside(result.height, result.width, height, width);
  if (rows !== result.height || columns !== result.width) {
    keep("resized", resize(result, rows, columns), `resized ${size()} -> ${columns}x${rows}`);
  }
  let surroundings = around ?? result;
  if (record.channels === 1 && record.polarity !== "mixed") {
    const background = hasLightBackground(surroundings) ? "light" : "dark";
    if (background !== record.polarity) {
      surroundings = inverted(surroundings);
      keep("inverted", inverted(result), `inverted because its background is ${background}`);
    }
  }
  const stretched = record.background && stretchContrast(record.background, onBlack(result, record), onBlack(surroundings, record));
  if (stretched) {
    const target = record.polarity === "dark" ? "white" : "black";
    keep("contrast", onBlack(stretched, record), `contrast stretched from the background to ${target}`);
  }
  if (result.height !== height || result.width !== width) {
    keep("padded", padded(record, result), `letterboxed to ${width}x${height}`);
  }
  return { pixels: result, notes, steps };
}

/** Light ink on black; or back. @param {Pixels} pixels @param {Preprocessing} record */
function onBlack(pixels, record) {
  return record.polarity === "light" ? inverted(pixels) : pixels;
}

/** @param {Preprocessing} record @param {Pixels} pixels */
function cutSurroundings(record, pixels) {
  const isForeign = pixels.height !== record.height || pixels.width !== record.width;
  const subject = record.background && isForeign ? cropSurroundings(record.background, pixels) : null;
  if (!subject) return { inside: pixels, around: null };
  const { top, bottom, left, right } = subject.box;
  return { inside: cut(pixels, top, bottom, left, right), around: subject.around };
}

/** @param {Preprocessing} record @param {Pixels} pixels */
function crop(record, pixels) {
  const { height, width } = pixels;
  if (record.fit !== "crop") return pixels;
  const isWide = width * record.height > height * record.width;
  const isHigh = width * record.height < height * record.width;
  const columns = isWide ? Math.max(1, Math.floor((height * record.width) / record.height)) : width;
  const rows = isHigh ? Math.max(1, Math.floor((width * record.height) / record.width)) : height;
  if (rows === height && columns === width) return pixels;
  const top = Math.floor((height - rows) / 2), left = Math.floor((width - columns) / 2);
  return cut(pixels, top, top + rows, left, left + columns);
}

/** @param {Preprocessing} record @param {Pixels} pixels @returns {Pixels} */
function padded(record, { height, width, channels, data }) {
  const result = image(record.height, record.width, channels);
  for (let i = 0; i < result.data.length; i++) result.data[i] = record.fill[i % channels];
  const top = Math.floor((record.height - height) / 2), left = Math.floor((record.width - width) / 2);
  for (let row = 0; row < height; row++) {
    const part = data.subarray(row * width * channels, (row + 1) * width * channels);
    result.data.set(part, ((top + row) * record.width + left) * channels);
  }
  return result;
}

/** @param {Preprocessing} record @param {import("../framing/ink.js").Ink} ink */
function framingNotes(record, ink) {
  const side = record.frame?.side;
  const framed = `ink of ${ink.columns}x${ink.rows} framed as in the training images: ${side} pixels, centered by mass`;
  if (ink.dark !== (record.polarity === "dark")) return [framed];
  return [`inverted because its ink is ${ink.dark ? "dark" : "light"}`, framed];
}
