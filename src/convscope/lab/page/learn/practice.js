// The lessons on data, training and use, in the article's order.
import { make, percent } from "../views/dom.js";
import { intervalOf, sumOf } from "./arithmetic.js";
import { drawDigits } from "./digits.js";
import { buildFilter } from "./filter.js";
import { choice, line, matrix, question, row, side, table } from "./parts.js";

/** @typedef {import("./parts.js").Example} Example */

/** @type {import("./parts.js").Lesson[]} */
export const PRACTICE = [
  {
    rows: "A10",
    title: "Data",
    text: "A network learns from images with labels. MNIST has 70,000 gray digits of 28x28 pixels: 60,000 to train on, and 10,000 that it never sees in training, to test. Here are nine digits of 8x8 pixels, drawn for this page, with their labels.",
    task: "How many numbers does an image of MNIST have?",
    hint: "It has 28 rows of 28 pixels, each a single number.",
    build: buildData,
  },
  {
    rows: "A11",
    title: "Preprocessing",
    text: "Pixels are divided by 255, so that all inputs lie from 0 to 1. A label becomes a row with a 1 at the place of its class and 0 elsewhere: one-hot. Places count from 0.",
    task: "Make the label 0 0 0 1 0 0 0 0 0 0, and the first input 0.2.",
    hint: "The place of the 1 is the class. The pixel is 0.2 times 255.",
    build: buildPreprocessing,
  },
  {
    rows: "A12",
    title: "The article's network",
    text: "A 3x3 convolution of 32 filters with ReLU, max pooling, flatten, a dense layer of 100 units with ReLU, and one of 10 with softmax. A filter has 9 weights and a bias. A dense unit has a weight for each input, and a bias.",
    task: "Bring the network below 300,000 parameters.",
    hint: "Most are between the flattened maps and the dense layer: fewer maps or fewer units help.",
    build: buildNetwork,
  },
  {
    rows: "A13",
    title: "Training curves",
    text: "An epoch shows each training image once, in batches: the article takes 128 images for a step, and 10 epochs. The training loss keeps falling. If the loss on images kept aside (validation) rises again, the network begins to learn its examples by heart.",
    task: "After which epoch are the weights best? Change the losses if you like.",
    hint: "Look for the lowest loss on images that were not trained on.",
    build: buildCurves,
  },
  {
    rows: "A14",
    title: "Evaluation",
    text: "Accuracy is the part of the test images that are classified correctly: those on the diagonal of the confusion matrix, which counts how often each true class (row) was given each answer (column). The interval says where the accuracy on many more images would likely be. Above 98 %, the article's network is well trained.",
    task: "Correct mistakes until the accuracy is above 98 %.",
    hint: "Lower the numbers beside the diagonal, or raise those on it.",
    build: buildEvaluation,
  },
  {
    rows: "A15",
    title: "What does it look at?",
    text: "Curves tell whether training went well; a confusion matrix, which classes are mixed up. Feature maps and kernels show what a layer responds to. An occlusion map covers one region after another: where the answer suffers most, the network looked.",
    task: "A network tells wolves from dogs by the snow behind them. What shows it?",
    hint: "You need to know which region of an image decides, not how often the answer is wrong.",
    build: buildLooking,
  },
  {
    rows: "A2 A16",
    title: "Kernels on your own image",
    text: "Before networks learned their kernels, people designed them, and effects for photos still use them: edges, blur, sharpening, emboss. Results below 0 are black. Open an image, or drop one here; each color is filtered alone.",
    task: "Choose or make a kernel that turns areas of one color black.",
    hint: "In such an area the result is the color times the sum of the weights. Find weights that add up to 0, without all being 0.",
    build: buildFilter,
  },
  {
    rows: "A16",
    title: "Large images",
    text: "Networks recognize faces, letters and signs, and let robots and cars see. Cost grows with the number of pixels, so large images are reduced first, as far as the features stay visible. Here is the cost of one 3x3 convolution with 32 filters on a 4K color image.",
    task: "Bring the cost below 100 million multiply-adds.",
    hint: "Reduce further: half the width and height is a quarter of the cost.",
    build: buildReduction,
  },
];

/** @returns {Example} */
function buildData() {
  const box = row(...drawDigits().map((digit, label) => make("figure", {}, digit, make("figcaption", {}, `label ${label}`))));
  box.classList.add("figures");
  const [isRight, ...asked] = question("Numbers:", () => 784);
  return [isRight, box, ...asked];
}

/** @returns {Example} */
function buildPreprocessing() {
  const pixels = matrix("pixels", [[0, 128, 255]], update, [0, 255]), label = choice("Label", [...Array(10).keys()], 7, update);
  const view = side();
  update();
  return [() => pixels.rows[0][0] === 51 && label.select.value === "3", row(label.label), pixels, view];
  function update() {
    const label_ = Number(label.select.value);
    view.replaceChildren(matrix("inputs", [pixels.rows[0].map((value) => value / 255)]), matrix("one-hot label", [Array.from({ length: 10 }, (_, i) => Number(i === label_))]));
  }
}

/** @returns {Example} */
function buildNetwork() {
  const choices = [choice("Filters", [8, 16, 32, 64], 32, update), choice("Kernel side", [3, 5], 3, update), choice("Units", [50, 100, 200], 100, update)];
  const view = side();
  let total = 0;
  update();
  return [() => total < 300_000, row(...choices.map(({ label }) => label)), view];
  function update() {
    const [filters, kernel, units] = choices.map(({ select }) => Number(select.value));
    const map = 29 - kernel, half = map / 2, inputs = half * half * filters;
    const counts = [(kernel * kernel + 1) * filters, (inputs + 1) * units, (units + 1) * 10];
    total = sumOf(counts);
    view.replaceChildren(table([
      ["layer", "output", "parameters"],
      ["convolution, ReLU", `${map} x ${map} x ${filters}`, counts[0]],
      ["max pooling", `${half} x ${half} x ${filters}`, 0],
      ["flatten", inputs, 0],
      ["dense, ReLU", units, counts[1]],
      ["dense, softmax", 10, counts[2]],
      ["together", "", total],
    ]));
  }
}

/** @returns {Example} */
function buildCurves() {
  const losses = matrix("loss after epochs 1 to 6: training, validation", [[0.9, 0.5, 0.35, 0.25, 0.18, 0.12], [0.95, 0.6, 0.48, 0.44, 0.49, 0.58]], update);
  const curves = ["", ""].map(() => make("div"));
  const chart = make("div", { className: "chart", role: "img", "aria-label": "The losses as curves" }, ...curves);
  update();
  const [isRight, ...asked] = question("Epoch:", () => losses.rows[1].indexOf(Math.min(...losses.rows[1])) + 1);
  return [isRight, losses, chart, make("p", { className: "hint" }, "thin: training; thick: validation"), ...asked];
  function update() {
    const top = Math.max(...losses.rows.flat());
    losses.rows.forEach((values, i) => {
      const edge = (/** @type {number} */ width) => values.map((value, x) => `${2 + x * 19}% ${98 - (90 * value) / top + width}%`);
      curves[i].style.clipPath = `polygon(${[...edge(-1 - i), ...edge(1 + i).reverse()]})`;
    });
  }
}

/** @returns {Example} */
function buildEvaluation() {
  const counts = matrix("confusion matrix", [[95, 3, 2], [1, 98, 1], [4, 2, 94]], update, [0, 1e6]), text = line();
  const accuracy = () => sumOf(counts.rows.map((one, i) => one[i])) / sumOf(counts.rows.flat());
  update();
  return [() => accuracy() > 0.98, counts, text];
  function update() {
    const [low, high] = intervalOf(accuracy(), sumOf(counts.rows.flat()));
    text.textContent = `accuracy ${percent(accuracy())}, 95 % interval ${percent(low)} to ${percent(high)}`;
  }
}

/** @returns {Example} */
function buildLooking() {
  const answer = choice("Answer:", ["", "learning curves", "confusion matrix", "occlusion map"], "");
  return [() => answer.select.value === "occlusion map", answer.label, make("a", { href: "#" }, "Look at the layers of the opened network")];
}

/** @returns {Example} */
function buildReduction() {
  const factor = choice("Divide width and height by", [1, 2, 4, 8, 16], 1, update), text = line();
  let cost = 0;
  update();
  return [() => cost < 1e8, factor.label, text];
  function update() {
    const [width, height] = [3840, 2160].map((one) => one / Number(factor.select.value));
    cost = width * height * 32 * 3 * 9;
    text.textContent = `${width} x ${height} · 3 colors · 32 filters · 9 = ${cost.toLocaleString("en")} multiply-adds`;
  }
}
