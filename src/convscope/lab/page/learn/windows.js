// The lessons of windows that slide: convolution and pooling.
import { short } from "../views/dom.js";
import { POOLS, dot, slide, termsOf } from "./arithmetic.js";
import { LabMatrix, digits } from "./matrix.js";
import { choice, line, matrix, row, side, walker } from "./parts.js";

const IMAGE = digits("11011/10101/11110/00110/11000");
const KERNEL = digits("101/010/110");

/**
 * A map of the windows of an image, cell by cell.
 * @param {LabMatrix} image @param {string} name of the map
 * @param {() => {size: number, stride: number, pad: string}} options
 * @param {(window: number[]) => number} compute @param {(window: number[]) => string} explain
 */
function sliding(image, name, options, compute, explain) {
  const map = new LabMatrix(), sum = line();
  const walk = walker((at) => {
    const { windows, before } = update();
    const { size, stride } = options();
    const y = Math.floor(at / windows.length), x = at % windows.length;
    const covers = (/** @type {number} */ i, /** @type {number} */ cell) => i + before >= cell * stride && i + before < cell * stride + size;
    map.mark((row_, column) => row_ === y && column === x);
    image.mark((row_, column) => covers(row_, y) && covers(column, x));
    sum.textContent = `${explain(windows[y][x])} = ${short(map.rows[y][x])}`;
    return at === windows.length ** 2 - 1;
  });
  return { map, sum, walk, changed };
  function update() {
    const { size, stride, pad } = options();
    const found = slide(image.rows, size, stride, pad);
    map.open(name, found.windows.map((one) => one.map(compute)));
    return found;
  }
  function changed() {
    walk.reset();
    sum.textContent = "";
    image.mark(() => false);
    update();
  }
}

/** @returns {import("./parts.js").Example} */
export function buildConvolution() {
  const image = matrix("image", IMAGE, changed), kernel = new LabMatrix();
  const size = choice("Kernel", [2, 3, 5], 3, resize);
  const stride = choice("Stride", [1, 2], 1, changed);
  const pad = choice("Padding", ["valid", "same", 1, 2], "valid", changed);
  const weights = () => kernel.rows.flat();
  const options = () => ({ size: kernel.rows.length, stride: Number(stride.select.value), pad: pad.select.value });
  const shown = sliding(image, "feature map", options, (window) => dot(window, weights()), (window) => termsOf(window, weights()));
  resize();
  const lacks = () => {
    const { length } = shown.map.rows;
    const advice = length > 2 ? "A larger kernel or stride, or less padding, makes it smaller" : "A smaller kernel or stride, or more padding, makes it larger";
    if (length !== 2) return `The map has ${length}x${length} cells. ${advice}.`;
    const [[first]] = shown.map.rows;
    return first === 6 ? "" : `The first cell is ${short(first)}, not 6. Change a weight that meets a 1 there.`;
  };
  return [lacks, row(size.label, stride.label, pad.label), row(...shown.walk.nodes), side(image, kernel, shown.map), shown.sum];
  function changed() {
    shown.changed();
  }
  function resize() {
    const steps = [...Array(Number(size.select.value)).keys()];
    kernel.open("kernel", steps.map((y) => steps.map((x) => KERNEL[y]?.[x] ?? 0)), changed);
    changed();
  }
}

/** @returns {import("./parts.js").Example} */
export function buildPooling() {
  const image = matrix("map", digits("3541/2256/4425/1354"), changed);
  const kind = choice("Kind", Object.keys(POOLS), "max", changed);
  const size = choice("Window", [2, 3], 2, changed);
  const stride = choice("Stride", [1, 2], 2, changed);
  const options = () => ({ size: Number(size.select.value), stride: Number(stride.select.value), pad: "valid" });
  const explain = (/** @type {number[]} */ window) => `${kind.select.value} of ${window.map(short).join(", ")}`;
  const shown = sliding(image, "pooled", options, (window) => POOLS[kind.select.value](window), explain);
  changed();
  const lacks = () => {
    const { size: side_, stride: step, pad } = options(), { length } = shown.map.rows;
    if (length !== 2) return `The map has ${length}x${length} cells. Windows of 2 with a stride of 2 make 2x2.`;
    const wanted = [3, 4, 3, 4], found = shown.map.rows.flat(), at = found.findIndex((value, i) => value !== wanted[i]);
    return at < 0 ? "" : `The ${explain(slide(image.rows, side_, step, pad).windows.flat()[at])} is ${short(found[at])}, but ${wanted[at]} is asked for.`;
  };
  return [lacks, row(kind.label, size.label, stride.label), row(...shown.walk.nodes), side(image, shown.map), shown.sum];
  function changed() {
    shown.changed();
  }
}
