// The lessons on layers, from the pixel to a step of learning, in the article's order.
import { make, percent, short } from "../views/dom.js";
import { dot, softmaxOf, termsOf } from "./arithmetic.js";
import { drawDigits } from "./digits.js";
import { LabMatrix } from "./matrix.js";
import { button, choice, line, matrix, question, row, shades, side, toNetwork } from "./parts.js";
import { buildConvolution, buildPooling } from "./windows.js";

/** @typedef {import("./parts.js").Example} Example */

/** @type {import("./parts.js").Lesson[]} */
export const LAYERS = [
  {
    rows: "A1",
    title: "An image is a matrix",
    text: "A gray image is a table of numbers, from 0 for black to 255 for white. A color image has three such tables, for red, green and blue light. Where all three are equal, the pixel is gray.",
    task: "Make the pixel in the middle bright yellow.",
    build: buildPixels,
  },
  {
    rows: "A2 A3",
    title: "Convolution",
    text: "A kernel, or feature detector, slides over the image by its stride. At each place the pixels are multiplied by its weights, and the products are added: a cell of the feature map. Padding adds 1 or 2 rings of zeros around the image; “valid” adds none, “same” as many as keep the size with stride 1.",
    task: "Make a feature map of 2x2 cells with a 6 in the first.",
    build: buildConvolution,
  },
  {
    rows: "A4",
    title: "ReLU",
    text: "ReLU replaces negative numbers by 0. Without such a bend, any number of layers could compute only what one layer can. In the pictures, 0 is gray, and black is negative.",
    task: "Change the numbers so that ReLU changes none of them.",
    build: buildRelu,
  },
  {
    rows: "A5",
    title: "Pooling",
    text: "Pooling keeps one number of each window: the largest, the smallest or the mean. The map becomes smaller, and small shifts of the image matter less. Max pooling keeps the strongest features.",
    task: "Find the pooling that gives 3 4 in both rows.",
    build: buildPooling,
  },
  {
    rows: "A6",
    title: "Depth and cost",
    text: "Each further layer lets a cell see more of the image, and costs more. A 3x3 convolution from c to f maps of h rows and w columns takes h · w · f · c · 9 multiply-adds. Here the image has 28x28 pixels, and all maps are as large.",
    task: "Let a cell see 9x9 pixels, for less than 3 million multiply-adds.",
    build: buildDepth,
  },
  {
    rows: "A7",
    title: "Flatten",
    text: "Dense layers read a list. Flatten goes row by row and column by column, and at each place through all maps: two maps take turns. Point at a cell, or move to it with Tab, to see where it goes. All counting starts at 0.",
    task: "If there were three maps of 2x2 cells, which entry would row 1, column 0 of the second map be?",
    build: buildFlatten,
  },
  {
    rows: "A8",
    title: "Dense layer",
    text: "Each unit of a dense (fully connected) layer adds all inputs, each times a weight of its own, and a bias. In the last layer every class has a unit, whose sum is called its logit. The class with the largest wins.",
    task: "Let unit 2 win by changing its bias only.",
    build: buildDense,
  },
  {
    rows: "A9",
    title: "Softmax",
    text: "Softmax makes logits probabilities: e to the power of each, divided by the sum of all these powers. They add up to 100\u00a0%.",
    task: "Give the second class more than 90 %.",
    build: buildSoftmax,
  },
  {
    rows: "A8 A13",
    title: "One step of learning",
    text: "The loss is −log (natural logarithm) of the true class's probability. A gradient says how fast the loss grows with a number. Backpropagation finds it: a logit's is the probability, less 1 at the true class; a weight's is that times its input. SGD with momentum steps against it: velocity = 0.9 · velocity − 0.01 · gradient; weight = weight + velocity. Here the inputs are 1 and 2 (columns), and the first of two classes (rows) is right.",
    task: "Take steps until the loss is below 0.5.",
    build: buildStep,
  },
];

/** @returns {Example} */
function buildPixels() {
  const { box, color } = shades("The image");
  const names = ["red", "green", "blue"], yellow = [255, 255, 0];
  const tables = names.map((name) => matrix(name, [[0, 40, 90], [40, 90, 160], [90, 160, 230]], update, [0, 255]));
  update();
  return [lacks, side(...tables, box)];
  function lacks() {
    const middle = tables.map(({ rows }) => rows[1][1]), at = middle.findIndex((value, i) => value !== yellow[i]);
    return at < 0 ? "" : `Bright yellow is all red and green light, without blue: ${yellow[at]} of ${names[at]}; the middle has ${middle[at]}.`;
  }
  function update() {
    color(tables[0].rows.flatMap((one, y) => one.map((_, x) => `rgb(${tables.map(({ rows }) => rows[y][x])})`)));
  }
}

/** @returns {Example} */
function buildRelu() {
  const before = matrix("before", [[-2, 0.5, 3], [1, -0.1, -4]], update), after = new LabMatrix();
  const pictures = ["Before", "After"].map(shades);
  update();
  const lacks = () => {
    const below = before.rows.flat().filter((value) => value < 0);
    return below.length ? `ReLU makes these 0: ${below.map(short).join(", ")}.` : "";
  };
  return [lacks, side(side(before, pictures[0].box), side(after, pictures[1].box))];
  function update() {
    after.open("after", before.rows.map((one) => one.map((value) => Math.max(0, value))));
    const gray = (/** @type {number} */ value) => `hsl(0 0% ${50 + 12 * value}%)`;
    [before, after].forEach(({ rows }, i) => pictures[i].color(rows.flat().map(gray)));
  }
}

/** @returns {Example} */
function buildDepth() {
  const depth = choice("Layers", [1, 2, 3, 4, 5, 6], 1, update), maps = choice("Maps per layer", [8, 16, 32], 32, update);
  const text = line(), canvas = make("canvas", { width: 28, height: 28, role: "img", "aria-label": "What a cell sees of an image" });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d")), digit = drawDigits()[3];
  const state = () => {
    const n = Number(depth.select.value), f = Number(maps.select.value);
    return { seen: 2 * n + 1, cost: 28 * 28 * 9 * f * (1 + (n - 1) * f) };
  };
  update();
  return [lacks, row(depth.label, maps.label), text, make("div", { className: "filtered" }, canvas)];
  function lacks() {
    const { seen, cost } = state();
    if (seen !== 9) return `A cell sees ${seen}x${seen} pixels. Each layer adds one pixel on every side.`;
    return cost < 3e6 ? "" : `${cost.toLocaleString("en")} are too many. Half as many maps cost about a quarter.`;
  }
  function update() {
    const { seen, cost } = state();
    context.drawImage(digit, 0, 0, 28, 28);
    context.strokeStyle = "#ffc46b";
    context.strokeRect(14 - seen / 2, 14 - seen / 2, seen + 1, seen + 1);
    text.textContent = `A cell of the last map sees ${seen}x${seen} pixels. ${cost.toLocaleString("en")} multiply-adds.`;
  }
}

/** @returns {Example} */
function buildFlatten() {
  const names = ["first map", "second map"];
  const maps = [matrix(names[0], [[1, 2], [3, 4]]), matrix(names[1], [[10, 20], [30, 40]])];
  const list = matrix("list", [[1, 10, 2, 20, 3, 30, 4, 40]]);
  const text = line();
  list.cells[0].forEach((entry, i) => {
    const map = i % 2, y = i >> 2, x = (i >> 1) % 2;
    const cell = maps[map].cells[y][x];
    const show = () => {
      maps.forEach((one, j) => one.mark((row_, column) => j === map && row_ === y && column === x));
      list.mark((_, at) => at === i);
      text.textContent = `row ${y}, column ${x} of the ${names[map]} is entry ${i}`;
    };
    for (const one of [entry, cell]) {
      one.tabIndex = 0;
      one.addEventListener("mouseenter", show);
      one.addEventListener("focus", show);
    }
  });
  const { typed, label } = question("Entry:");
  const lacks = () => {
    const at = typed(), wrong = at >= 0 ? ` The second of them is not entry ${at}.` : "";
    return at === 7 ? "" : `Row 0 fills entries 0 to 5. Then come the three cells of row 1, column 0.${wrong}`;
  };
  return [lacks, side(...maps, list), text, label];
}

/** @returns {Example} */
function buildDense() {
  const start = [[[1, 2, 0.5]], [[0.5, 1, 2], [1, -0.5, 2]], [[0.5], [0]]];
  const [inputs, weights, biases] = ["inputs", "weights, a row for each unit", "biases"].map((name, i) => matrix(name, start[i], update));
  const texts = [line(), line()];
  const sums = () => weights.rows.map((one, i) => dot(inputs.rows[0], one) + biases.rows[i][0]);
  const lacks = () => {
    const now = [inputs, weights, biases].flatMap(({ rows }) => rows.flat()), before = start.flat(2);
    const at = now.slice(0, -1).findIndex((value, i) => value !== before[i]);
    if (at >= 0) return `Only the bias of unit 2 may change; ${short(now[at])} was ${short(before[at])} before.`;
    const [first, second] = sums();
    return second > first ? "" : `Unit 2 has ${short(second)} and needs more than unit 1, ${short(first)}.`;
  };
  update();
  return [lacks, side(inputs, weights, biases), ...texts];
  function update() {
    texts.forEach((text, i) => {
      text.textContent = `unit ${i + 1}: ${termsOf(inputs.rows[0], weights.rows[i])} + ${short(biases.rows[i][0])} = ${short(sums()[i])}`;
    });
  }
}

/** @returns {Example} */
function buildSoftmax() {
  const logits = matrix("logits", [[1, 2, 0.5]], update), text = line();
  update();
  const lacks = () => {
    const share = softmaxOf(logits.rows[0])[1];
    return share > 0.9 ? "" : `It has ${percent(share)}. Raise its logit, or lower the others.`;
  };
  return [lacks, logits, text];
  function update() {
    const powers = logits.rows[0].map(Math.exp);
    text.textContent = `powers ${powers.map((one) => one.toFixed(2)).join(" + ")} = ${powers.reduce((a, b) => a + b).toFixed(2)}; probabilities ${softmaxOf(logits.rows[0]).map(percent).join(", ")}`;
  }
}

/** @returns {Example} */
function buildStep() {
  const inputs = [1, 2];
  const weights = [[0.1, -0.2], [0.3, 0.1]];
  const velocity = [[0, 0], [0, 0]];
  let used = /** @type {number[][] | null} */ (null), last = "";
  const view = side(), text = line();
  const state = () => {
    const found = softmaxOf(weights.map((one) => dot(one, inputs)));
    return { found, loss: -Math.log(found[0]), gradient: found.map((p, i) => inputs.map((x) => (p - (i ? 0 : 1)) * x)) };
  };
  const step = button("Take a step", () => {
    last = `${state().loss.toFixed(4)} → `;
    used = state().gradient;
    used.forEach((one, i) => one.forEach((value, j) => {
      velocity[i][j] = 0.9 * velocity[i][j] - 0.01 * value;
      weights[i][j] += velocity[i][j];
    }));
    update();
  });
  update();
  const lacks = () => {
    const { loss } = state();
    return loss < 0.5 ? "" : `The loss is ${loss.toFixed(4)}. ${used ? "Take more steps: momentum makes them longer" : "Press “Take a step”"}.`;
  };
  return [lacks, row(step), view, text, toNetwork("A step of the whole network", "lab-backprop")];
  function update() {
    const { found, loss, gradient } = state();
    view.replaceChildren(matrix("weights", weights), matrix(`gradient of the ${used ? "last" : "next"} step`, used ?? gradient), matrix("velocity", velocity));
    text.textContent = `probabilities ${found.map(percent).join(", ")}; loss ${last}${loss.toFixed(4)}`;
  }
}
