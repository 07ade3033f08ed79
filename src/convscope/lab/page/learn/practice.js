// The lessons on data, training and use, in the article's order.
import { make, percent, short } from "../views/dom.js";
import { intervalOf, sumOf } from "./arithmetic.js";
import { drawDigits } from "./digits.js";
import { buildFilter } from "./filter.js";
import { choice, line, matrix, question, row, shades, side, table, toNetwork } from "./parts.js";

/** @typedef {import("./parts.js").Example} Example */

const SIGN = 256; // pixels of its side in the large image

/** @type {import("./parts.js").Lesson[]} */
export const PRACTICE = [
  {
    rows: "A10",
    title: "Data",
    text: "A network learns from images with labels. MNIST has 70,000 gray digits of 28x28 pixels: 60,000 to train on, and 10,000 that it never sees in training, to test. Here are nine digits of 8x8 pixels, drawn for this page, with their labels.",
    task: "How many numbers describe one image of MNIST?",
    build: buildData,
  },
  {
    rows: "A11",
    title: "Preprocessing",
    text: "Pixels are divided by 255, so that all inputs lie from 0 to 1. A label becomes a row with a 1 at the place of its class and 0 elsewhere: one-hot. Places count from 0.",
    task: "Make the label 0 0 0 1 0 0 0 0 0 0, and the first input 0.2.",
    build: buildPreprocessing,
  },
  {
    rows: "A12",
    title: "The article's network",
    text: "convscope grew out of an article that trains this network: a 3x3 convolution of 32 filters with ReLU, max pooling, flatten, a dense layer of 100 units with ReLU, and one of 10 with softmax. A filter has a weight for each cell of its kernel, a dense unit one for each input; both have a bias.",
    task: "Bring the network below 300,000 parameters.",
    build: buildNetwork,
  },
  {
    rows: "A13",
    title: "Training curves",
    text: "An epoch shows each training image once, in batches: the article takes 128 images for a step, and 10 epochs. The training loss keeps falling. If the loss on images kept aside (validation) rises again, the network begins to learn its examples by heart.",
    task: "After which epoch are the weights best? Change the losses if you like.",
    build: buildCurves,
  },
  {
    rows: "A14",
    title: "Evaluation",
    text: "Accuracy is the part of the test images that are classified correctly: those on the diagonal of the confusion matrix, which counts how often each true class (row; here of 100 images) was given each answer (column). The interval says where the accuracy on many more images would likely be. Above 98 %, the article's network is well trained.",
    task: "Move mistakes to the diagonal until the accuracy is above 98 %.",
    build: buildEvaluation,
  },
  {
    rows: "A15",
    title: "What does it look at?",
    text: "Curves tell whether training went well; a confusion matrix, which classes are mixed up. Feature maps and kernels show what a layer responds to. An occlusion map covers one region after another: where the answer suffers most, the network looked.",
    task: "A network tells wolves from dogs by the snow behind them. Which of these would show that?",
    build: buildLooking,
  },
  {
    rows: "A2 A16",
    title: "Kernels on your own image",
    text: "Before networks learned their kernels, people designed them, and effects for photos still use them: edges, blur, sharpening, emboss. Results below 0 are black. Open an image, or drop one here; red, green and blue are filtered one by one.",
    task: "Choose or make a kernel that shows only edges, and black where all pixels are equal.",
    build: buildFilter,
  },
  {
    rows: "A16",
    title: "Large images",
    text: "Networks recognize faces, letters and signs, and let robots and cars see. Cost grows with the number of pixels, so large images are reduced first, as far as the features stay visible. Here is the cost of one 3x3 convolution with 32 filters on a 4K color image.",
    task: "Bring the cost below 200 million multiply-adds, but keep the number on the sign readable.",
    build: buildReduction,
  },
];

/** @returns {Example} */
function buildData() {
  const box = row(...drawDigits().map((digit, label) => make("figure", {}, digit, make("figcaption", {}, `label ${label}`))));
  box.classList.add("figures");
  const { typed, label } = question("Numbers:");
  const lacks = () => {
    const than = typed() > 784 ? "fewer" : "more";
    return typed() === 784 ? "" : `It has 28 rows of 28 numbers: ${than} than ${typed() || 28}.`;
  };
  return [lacks, box, label];
}

/** @returns {Example} */
function buildPreprocessing() {
  const pixels = matrix("pixels", [[0, 128, 255]], update, [0, 255]), label = choice("Label", [...Array(10).keys()], 7, update);
  const view = side();
  update();
  const lacks = () => {
    const [first] = pixels.rows[0], { value } = label.select;
    if (value !== "3") return `The 1 stands at place ${value}, that of the class; it should stand at place 3.`;
    return first === 51 ? "" : `The first input is ${first} / 255 = ${short(first / 255)}. Which pixel gives 0.2?`;
  };
  return [lacks, row(label.label), pixels, view];
  function update() {
    const label_ = Number(label.select.value);
    view.replaceChildren(matrix("inputs", [pixels.rows[0].map((value) => value / 255)]), matrix("one-hot label", [Array.from({ length: 10 }, (_, i) => Number(i === label_))]));
  }
}

/** @returns {Example} */
function buildNetwork() {
  const choices = [choice("Filters", [8, 16, 32, 64], 32, update), choice("Kernel side", [3, 5], 3, update), choice("Units", [50, 100, 200], 100, update)];
  const view = side();
  /** @type {number[]} */
  let counts = [];
  update();
  const lacks = () => {
    const text = `${counts[1].toLocaleString("en")} parameters are in the first dense layer. Fewer filters give it fewer inputs; fewer units help, too.`;
    return sumOf(counts) < 300_000 ? "" : text;
  };
  return [lacks, row(...choices.map(({ label }) => label)), view];
  function update() {
    const [filters, kernel, units] = choices.map(({ select }) => Number(select.value));
    const map = 29 - kernel, half = map / 2, inputs = half * half * filters;
    counts = [(kernel * kernel + 1) * filters, (inputs + 1) * units, (units + 1) * 10];
    view.replaceChildren(table([
      ["layer", "output", "parameters"],
      ["convolution, ReLU", `${map} x ${map} x ${filters}`, counts[0]],
      ["max pooling", `${half} x ${half} x ${filters}`, 0],
      ["flatten", inputs, 0],
      ["dense, ReLU", units, counts[1]],
      ["dense, softmax", 10, counts[2]],
      ["together", "", sumOf(counts)],
    ]));
  }
}

/** @returns {Example} */
function buildCurves() {
  const losses = matrix("loss in training and validation (rows), epochs 1 to 6", [[0.9, 0.5, 0.35, 0.25, 0.18, 0.12], [0.95, 0.6, 0.48, 0.44, 0.49, 0.58]], update);
  const curves = ["", ""].map(() => make("div"));
  const chart = make("div", { className: "chart", role: "img", "aria-label": "The losses as curves" }, ...curves);
  update();
  const { typed, label } = question("Epoch:");
  const lacks = () => {
    const found = losses.rows[1], value = found[typed() - 1];
    if (value === undefined) return "Type the number of an epoch, from 1 to 6.";
    return value > Math.min(...found) ? `The validation loss is ${short(value)} after it, and lower after another epoch.` : "";
  };
  return [lacks, losses, chart, make("p", { className: "hint" }, "thin: training; thick: validation"), label];
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
  const counts = matrix("confusion matrix", [[95, 3, 2], [1, 98, 1], [4, 2, 94]], update, [0, 100]), text = line();
  const { box, color } = shades("The confusion matrix in colors");
  const state = () => {
    const all = sumOf(counts.rows.flat()), right = sumOf(counts.rows.map((one, i) => one[i]));
    return { all, right, accuracy: right / all };
  };
  update();
  const lacks = () => {
    const { all, right, accuracy } = state(), sums = counts.rows.map(sumOf), row_ = sums.findIndex((sum) => sum !== 100);
    if (row_ >= 0) return `Row ${row_ + 1} now has ${sums[row_]} images, but 100 were tested.`;
    return accuracy > 0.98 ? "" : `${all - right} of ${all} images are off the diagonal, which is ${percent(1 - accuracy)}; it must be less than 2 %.`;
  };
  return [lacks, side(counts, box), text];
  function update() {
    const { all, accuracy } = state(), [low, high] = intervalOf(accuracy, all), largest = Math.max(...counts.rows.flat());
    color(counts.rows.flat().map((count) => `hsl(210 80% ${95 - (60 * count) / largest}%)`));
    text.textContent = `accuracy ${percent(accuracy)}, 95 % interval ${percent(low)} to ${percent(high)}`;
  }
}

/** @returns {Example} */
function buildLooking() {
  const hints = ["Choose one of the three.", "Curves show how well it learns, not what it looks at.", "It shows which animals are mixed up, but not why.", ""];
  const answer = choice("Answer:", ["", "learning curves", "confusion matrix", "occlusion map"], "");
  return [() => hints[answer.select.selectedIndex], answer.label, toNetwork("The maps of the opened network", "lab-why")];
}

/** @returns {Example} */
function buildReduction() {
  const factor = choice("Divide width and height by", [1, 2, 4, 8, 16], 1, update), text = line(), caption = make("p", { className: "hint" });
  const sign = drawSign(), canvas = make("canvas", { role: "img", "aria-label": "The sign" });
  let cost = 0;
  update();
  const lacks = () => {
    if (cost >= 2e8) return `${cost.toLocaleString("en")} are too many. Half the width and height costs a quarter.`;
    return canvas.width > 16 ? "" : "Nobody can read the 50 in 16x16 pixels, and 200 million allow more.";
  };
  return [lacks, factor.label, text, make("div", { className: "filtered" }, canvas), caption];
  function update() {
    const [width, height, side_] = [3840, 2160, SIGN].map((one) => one / Number(factor.select.value));
    canvas.width = canvas.height = side_;
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.imageSmoothingQuality = "high";
    context.drawImage(sign, 0, 0, side_, side_);
    caption.textContent = `A road sign in it: ${side_}x${side_} pixels`;
    cost = width * height * 32 * 3 * 9;
    text.textContent = `${width} x ${height} · 3 colors · 32 filters · 9 = ${cost.toLocaleString("en")} multiply-adds`;
  }
}

/** A speed limit. */
function drawSign() {
  const canvas = make("canvas", { width: SIGN, height: SIGN });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d")), middle = SIGN / 2;
  ["#89a", "#c11", "#fff"].forEach((color, i) => {
    context.fillStyle = color;
    context.arc(middle, middle, [SIGN, 0.48 * SIGN, 0.37 * SIGN][i], 0, 7);
    context.fill();
    context.beginPath();
  });
  Object.assign(context, { fillStyle: "#000", font: "bold 120px sans-serif", textAlign: "center", textBaseline: "middle" });
  context.fillText("50", middle, middle);
  return canvas;
}
