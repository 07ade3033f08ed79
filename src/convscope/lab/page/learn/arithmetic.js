// The operations of the lessons on small matrices, as `reference.py` writes them.

/** @param {number[][]} image @param {number} pad zeros on each side */
const padded = (image, pad) => {
  const empty = Array(image[0].length + 2 * pad).fill(0);
  const side = Array(pad).fill(0);
  const rows = image.map((row) => [...side, ...row, ...side]);
  return [...Array(pad).fill(empty), ...rows, ...Array(pad).fill(empty)];
};

/** f of each window. @param {number[][]} image @param {number[]} size @param {number} stride
 * @param {(window: number[][]) => number} f */
const slideOver = (image, [height, width], stride, f) => {
  const rows = Math.floor((image.length - height) / stride) + 1, columns = Math.floor((image[0].length - width) / stride) + 1;
  const window = (/** @type {number} */ y, /** @type {number} */ x) =>
    image.slice(y * stride, y * stride + height).map((row) => row.slice(x * stride, x * stride + width));
  return Array.from({ length: rows }, (_, y) => Array.from({ length: columns }, (_value, x) => f(window(y, x))));
};

/** @param {number[][]} image @param {number[][]} kernel @param {number} stride @param {number} pad */
export function convolveMatrix(image, kernel, stride, pad) {
  const sum = (/** @type {number[][]} */ window) =>
    window.flatMap((row, y) => row.map((value, x) => value * kernel[y][x])).reduce((a, b) => a + b, 0);
  return slideOver(padded(image, pad), [kernel.length, kernel[0].length], stride, sum);
}

/** The terms of a cell, in words. @param {number[][]} image @param {number[][]} kernel @param {number} stride
 * @param {number} pad @param {number} row @param {number} column */
export function termsOfCell(image, kernel, stride, pad, row, column) {
  const source = padded(image, pad);
  return kernel.flatMap((line, y) => line.map((weight, x) => `${source[row * stride + y][column * stride + x]}·${weight}`)).join(" + ");
}

/** @param {number[][]} image @param {"max" | "min" | "average"} kind @param {number} size */
export function poolMatrix(image, kind, size) {
  return slideOver(image, [size, size], size, (window) => {
    const values = window.flat();
    if (kind === "max") return Math.max(...values);
    return kind === "min" ? Math.min(...values) : values.reduce((a, b) => a + b, 0) / values.length;
  });
}

/** @param {number[]} logits */
export function softmaxOf(logits) {
  const powers = logits.map((logit) => Math.exp(logit - Math.max(...logits)));
  return powers.map((power) => power / powers.reduce((a, b) => a + b, 0));
}
