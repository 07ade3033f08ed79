// The gradient of each operator's inputs, from that of its result (article, A8). To add an operator, add an entry.
import { slide } from "../ops/window.js";

/**
 * @typedef {import("../onnx/tensor.js").Tensor} Tensor
 * @typedef {{inputs: Tensor[], result: Tensor, attributes: import("../onnx/model.js").Attributes, g: Float64Array}} Place
 *   g is the gradient of the result
 * @typedef {(place: Place) => (Float64Array | null)[]} Gradient of each input; null if there is none
 */

const SQRT_HALF = Math.SQRT1_2;
const NORMAL = 1 / Math.sqrt(2 * Math.PI);

/** @param {(x: number, y: number, attributes: any) => number} slope at x, where the result is y @returns {Gradient} */
const unary = (slope) => ({ inputs: [x], result, attributes, g }) =>
  [g.map((value, i) => value * slope(x.data[i], result.data[i], attributes))]; // prettier-ignore

/** The same numbers in another shape. @type {Gradient} */
const same = ({ g }) => [g];

/** @type {Record<string, Gradient>} */
export const GRADIENTS = {
  Add: ({ inputs, result, g }) => inputs.map((input) => reduced(g, result.shape, input.shape)),
  AveragePool: (place) => [pooled(place, true)],
  BatchNormalization: normalization,
  Cast: () => [], // of the pixels
  Clip: ({ inputs: [x], result, g }) => [g.map((value, i) => (x.data[i] === result.data[i] ? value : 0))],
  Conv: convolution,
  Dropout: same,
  Flatten: same,
  Gelu: unary(gelu),
  Gemm: dense,
  GlobalAveragePool: (place) => [wholeMap(place, true)],
  GlobalMaxPool: (place) => [wholeMap(place, false)],
  HardSigmoid: unary((_, y, { alpha = 0.2 }) => (y > 0 && y < 1 ? alpha : 0)),
  HardSwish: unary((x) => (x > 3 ? 1 : x > -3 ? x / 3 + 0.5 : 0)),
  Identity: same,
  LeakyRelu: unary((x, _, { alpha = 0.01 }) => (x > 0 ? 1 : alpha)),
  MatMul: dense,
  MaxPool: (place) => [pooled(place, false)],
  Mul: ({ inputs: [a, b], result: { shape }, g }) => [a, b].map((input, i) => {
    const other = spread(i ? a : b, shape);
    return reduced(g.map((value, at) => value * other[at]), shape, input.shape);
  }), // prettier-ignore
  Neg: unary(() => -1),
  Relu: unary((x) => (x > 0 ? 1 : 0)),
  Reshape: same,
  Sigmoid: unary((_, y) => y * (1 - y)),
  Squeeze: same,
  Sub: ({ inputs: [a, b], result: { shape }, g }) => [reduced(g, shape, a.shape), reduced(g.map((value) => -value), shape, b.shape)],
  Sum: ({ inputs, result, g }) => inputs.map((input) => reduced(g, result.shape, input.shape)),
  Tanh: unary((_, y) => 1 - y * y),
  Transpose: ({ inputs: [x], result, attributes, g }) => {
    const order = attributes.perm ?? x.shape.map((_, i) => x.shape.length - 1 - i);
    const found = new Float64Array(g.length);
    each(result.shape, order.map((/** @type {number} */ axis) => steps(x.shape)[axis]), (i, at) => (found[at] = g[i]));
    return [found];
  },
  Unsqueeze: same,
};

/** @param {number} x @param {number} _ @param {import("../onnx/model.js").Attributes} attributes */
function gelu(x, _, { approximate }) {
  if (approximate === "tanh") {
    const inner = Math.sqrt(2 / Math.PI), y = Math.tanh(inner * (x + 0.044715 * x ** 3));
    return (1 + y + x * (1 - y * y) * inner * (1 + 0.134145 * x * x)) / 2;
  }
  // The distribution function of the normal distribution, and its density times x.
  const t = 1 / (1 + 0.3275911 * Math.abs(x) * SQRT_HALF); // Abramowitz and Stegun, 7.1.26: below 1.5e-7
  const series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  const tail = (series * Math.exp((-x * x) / 2)) / 2;
  return (x > 0 ? 1 - tail : tail) + x * NORMAL * Math.exp((-x * x) / 2);
}

/** @param {number[]} shape */
const steps = (shape) => shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1));

/** Calls `visit` with the place of each value, and with the place that has these steps.
 * @param {number[]} shape @param {number[]} step @param {(i: number, at: number) => void} visit */
function each(shape, step, visit) {
  const index = shape.map(() => 0);
  const size = shape.reduce((a, b) => a * b, 1);
  for (let i = 0, at = 0; i < size; i++) {
    visit(i, at);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at += step[axis];
      if (++index[axis] < shape[axis]) break;
      at -= step[axis] * shape[axis];
      index[axis] = 0;
    }
  }
}

/** Steps of a shape that is repeated to a larger one. @param {number[]} small @param {number[]} shape */
function repeated(small, shape) {
  const full = [...shape.slice(small.length).map(() => 1), ...small];
  return steps(full).map((step, i) => (full[i] === 1 ? 0 : step));
}

/** The sum over what was repeated. @param {Float64Array} g @param {number[]} shape @param {number[]} small */
function reduced(g, shape, small) {
  const found = new Float64Array(small.reduce((a, b) => a * b, 1));
  each(shape, repeated(small, shape), (i, at) => (found[at] += g[i]));
  return found;
}

/** @param {Tensor} x @param {number[]} shape that it is repeated to */
function spread(x, shape) {
  const found = new Float64Array(shape.reduce((a, b) => a * b, 1));
  each(shape, repeated(x.shape, shape), (i, at) => (found[i] = x.data[at]));
  return found;
}

/** @type {Gradient} */
function convolution({ inputs: [x, weight, bias], result, attributes, g }) {
  const windows = slide(x.shape, weight.shape.slice(2), attributes);
  const [filters, depth, height, width] = weight.shape;
  const part = filters / (attributes.group ?? 1);
  const area = windows.input[0] * windows.input[1];
  const cells = result.data.length / filters;
  const found = [new Float64Array(x.data.length), new Float64Array(weight.data.length), new Float64Array(bias ? filters : 0)];
  for (let filter = 0, at = 0; filter < filters; filter++) {
    const first = Math.floor(filter / part) * depth;
    for (let row = 0; row < windows.output[0]; row++) {
      for (let column = 0; column < windows.output[1]; column++) {
        const slope = g[at++];
        if (slope === 0) continue;
        const [y0, x0] = corner(windows, row, column);
        for (let line = 0; line < depth * height; line++) { // of a kernel, (depth, height, width)
          const y = y0 + (line % height) * windows.dilation[0];
          if (y < 0 || y >= windows.input[0]) continue;
          const start = (first + Math.floor(line / height)) * area + y * windows.input[1];
          const kernel = (filter * depth * height + line) * width;
          for (let j = 0; j < width; j++) {
            const c = x0 + j * windows.dilation[1];
            if (c < 0 || c >= windows.input[1]) continue;
            found[0][start + c] += slope * weight.data[kernel + j];
            found[1][kernel + j] += slope * x.data[start + c];
          }
        }
      }
    }
    if (bias) found[2][filter] = g.subarray(filter * cells, (filter + 1) * cells).reduce((a, b) => a + b, 0);
  }
  return found;
}

/** Where a window begins. @param {import("../ops/window.js").Windows} windows @param {number} row @param {number} column */
const corner = ({ stride, begin }, row, column) => [row * stride[0] - begin[0], column * stride[1] - begin[1]];

/** @type {Gradient} */
function dense({ inputs: [x, weight, bias], attributes, g }) {
  const inputs = x.data.length, units = g.length;
  const [input, unit] = attributes.transB ? [1, inputs] : [units, 1]; // steps in the weights
  const { alpha = 1, beta = 1 } = attributes;
  const found = [new Float64Array(inputs), new Float64Array(weight.data.length)];
  for (let k = 0; k < inputs; k++) {
    for (let u = 0; u < units; u++) {
      const at = k * input + u * unit;
      found[0][k] += alpha * g[u] * weight.data[at];
      found[1][at] = alpha * g[u] * x.data[k];
    }
  }
  return bias ? [...found, reduced(g.map((value) => beta * value), [1, units], bias.shape)] : found;
}

/** @type {Gradient} */
function normalization({ inputs: [x, scale, shift, mean, variance], attributes, g }) {
  const cells = x.data.length / scale.data.length;
  const found = [new Float64Array(x.data.length), new Float64Array(scale.data.length), new Float64Array(shift.data.length)];
  for (let i = 0; i < g.length; i++) {
    const channel = Math.floor(i / cells);
    const inverse = 1 / Math.sqrt(variance.data[channel] + (attributes.epsilon ?? 1e-5));
    found[0][i] = g[i] * scale.data[channel] * inverse;
    found[1][channel] += g[i] * (x.data[i] - mean.data[channel]) * inverse;
    found[2][channel] += g[i];
  }
  return found;
}

/** @param {Place} place @param {boolean} average */
function pooled({ inputs: [x], result, attributes, g }, average) {
  const windows = slide(x.shape, attributes.kernel_shape, attributes);
  const { size, dilation, input, output } = windows;
  const found = new Float64Array(x.data.length);
  for (let at = 0; at < g.length; at++) {
    const map = Math.floor(at / (output[0] * output[1]));
    const [y0, x0] = corner(windows, Math.floor(at / output[1]) % output[0], at % output[1]);
    const inside = [];
    for (let i = 0; i < size[0] * size[1]; i++) {
      const y = y0 + Math.floor(i / size[1]) * dilation[0], c = x0 + (i % size[1]) * dilation[1];
      if (y >= 0 && y < input[0] && c >= 0 && c < input[1]) inside.push((map * input[0] + y) * input[1] + c);
    }
    if (average) {
      const count = attributes.count_include_pad ? size[0] * size[1] : inside.length;
      for (const place of inside) found[place] += g[at] / count;
    } else found[inside.find((place) => x.data[place] === result.data[at]) ?? inside[0]] += g[at];
  }
  return found;
}

/** @param {Place} place @param {boolean} average */
function wholeMap({ inputs: [x], result, g }, average) {
  const cells = x.data.length / g.length;
  const found = new Float64Array(x.data.length);
  g.forEach((value, map) => {
    const start = map * cells;
    if (average) found.fill(value / cells, start, start + cells);
    else found[start + x.data.subarray(start, start + cells).indexOf(result.data[map])] = value;
  });
  return found;
}
