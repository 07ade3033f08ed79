// The lessons, in the article's order: a text, something to change, and a task that the page checks.
import { make, percent, short } from "../views/dom.js";
import { convolveMatrix, poolMatrix, softmaxOf, termsOfCell } from "./arithmetic.js";
import { LabMatrix, digits } from "./matrix.js";

/**
 * @typedef {{title: string, text: string, task: string, build: (done: (isDone: boolean) => void) => Node[]}} Lesson `build`
 *   makes the example; it calls `done` after each change
 */

const IMAGE = digits("11011/10101/11110/00110/11000");
const KERNEL = digits("101/010/110");

/** @param {string} name @param {number[][]} rows @param {(() => void) | null} [changed] */
const matrix = (name, rows, changed) => new LabMatrix().open(name, rows, changed);

/** @param {string} name @param {string[]} values @param {() => void} changed */
function choice(name, values, changed) {
  const select = make("select", {}, ...values.map((value) => make("option", {}, value)));
  select.addEventListener("change", changed);
  return { select, label: make("label", {}, `${name} `, select) };
}

/** @param {string} label @param {(text: string) => boolean} isRight @param {(isDone: boolean) => void} done */
function question(label, isRight, done) {
  const input = make("input", { inputMode: "numeric", size: 10 });
  input.addEventListener("input", () => done(isRight(input.value.replace(/[\s,.]/g, ""))));
  return make("label", {}, `${label} `, input);
}

/** @param {string} code @param {string} title @param {Omit<Lesson, "title">} rest @returns {Lesson} */
const lesson = (code, title, rest) => ({ title: `${title} (${code})`, ...rest });

/** @type {Lesson[]} */
export const LESSONS = [
  lesson("A1", "An image is a matrix", {
    text: "A gray image is a table of numbers, 0 for black to 255 for white; a color image has three such tables, for red, green and blue.",
    task: "Make the pixel in the middle white.",
    build(done) {
      const box = make("div", { className: "shades" });
      const table = matrix("pixels", [[0, 40, 90], [40, 90, 160], [90, 160, 230]], update);
      update();
      return [table, box];
      function update() {
        box.replaceChildren(...table.rows.flat().map((value) => {
          const shade = make("span");
          shade.style.background = `rgb(${value}, ${value}, ${value})`;
          return shade;
        }));
        done(table.rows[1][1] === 255);
      }
    },
  }),
  lesson("A2, A3", "Convolution", {
    text: "A kernel slides over the image. At each place its weights are multiplied with the pixels below, and the products are added: a cell of the feature map. Without padding the map is smaller than the image. Change any number; press a button to see the sum of a cell.",
    task: "Choose the padding that makes the feature map as large as the image, with stride 1.",
    build(done) {
      const stride = choice("Stride", ["1", "2"], update);
      const pad = choice("Padding", ["0", "1", "2"], update);
      const image = matrix("image", IMAGE, update), kernel = matrix("kernel", KERNEL, update);
      const map = new LabMatrix();
      const sum = make("p", { className: "sum", "aria-live": "polite" });
      const next = make("button", { type: "button" }, "Next cell");
      let at = -1;
      next.addEventListener("click", () => {
        at++;
        update();
      });
      update();
      return [make("div", { className: "row" }, stride.label, pad.label, next), make("div", { className: "products" }, image, kernel, map), sum];
      function update() {
        const [s, p] = [Number(stride.select.value), Number(pad.select.value)];
        const values = convolveMatrix(image.rows, kernel.rows, s, p);
        const width = values[0].length;
        at %= values.length * width;
        const row = Math.floor(at / width), column = at % width;
        map.open("feature map", values);
        map.mark((y, x) => at >= 0 && y === row && x === column);
        const covers = (/** @type {number} */ side, /** @type {number} */ start) => side + p >= start * s && side + p < start * s + 3;
        image.mark((y, x) => at >= 0 && covers(y, row) && covers(x, column));
        sum.textContent = at < 0 ? "" : `${termsOfCell(image.rows, kernel.rows, s, p, row, column)} = ${short(values[row][column])}`;
        done(s === 1 && values.length === image.rows.length);
      }
    },
  }),
  lesson("A4", "ReLU", {
    text: "ReLU replaces negative numbers by 0. Without such a bend, any number of layers could compute only what one layer can.",
    task: "Change the numbers so that ReLU changes none of them.",
    build(done) {
      const before = matrix("before", [[-2, 0.5, 3], [1, -0.1, -4]], update);
      const after = new LabMatrix();
      update();
      return [make("div", { className: "products" }, before, after)];
      function update() {
        after.open("after", before.rows.map((row) => row.map((value) => Math.max(0, value))));
        done(before.rows.flat().every((value) => value >= 0));
      }
    },
  }),
  lesson("A5", "Pooling", {
    text: "Pooling keeps one number of each window: the largest, the smallest or the mean. The map becomes smaller, and small shifts of the image matter less.",
    task: "Find the kind that gives 3 4 / 3 4.",
    build(done) {
      const kind = choice("Kind", ["max", "min", "average"], update);
      const image = matrix("map", digits("3541/2256/4425/1354"), update);
      const result = new LabMatrix();
      update();
      return [kind.label, make("div", { className: "products" }, image, result)];
      function update() {
        const found = poolMatrix(image.rows, /** @type {"max" | "min" | "average"} */ (kind.select.value), 2);
        result.open("pooled", found);
        done(String(found) === "3,4,3,4");
      }
    },
  }),
  lesson("A6", "Depth and cost", {
    text: "More layers see larger parts of the image, and cost more. A 3x3 convolution from c to f maps of h x w cells takes h · w · f · c · 9 multiply-adds.",
    task: "How many multiply-adds does one from 32 to 64 maps of 10x10 cells take?",
    build: (done) => [question("Multiply-adds:", (text) => text === "1843200", done)],
  }),
  lesson("A7", "Flatten", {
    text: "Dense layers read a list. Flatten goes through the rows, then the columns, then the maps: with two maps, their cells take turns.",
    task: "Which entry, counted from 0, is row 1, column 0 of the second map?",
    build(done) {
      const maps = [matrix("first map", [[1, 2], [3, 4]]), matrix("second map", [[10, 20], [30, 40]])];
      const list = matrix("list", [[1, 10, 2, 20, 3, 30, 4, 40]]);
      return [make("div", { className: "products" }, ...maps, list), question("Entry:", (text) => text === "5", done)];
    },
  }),
  lesson("A8, A9", "Dense layer and softmax", {
    text: "A dense layer gives each class a number, its logit: the sum of all inputs times weights, plus a bias. Softmax makes them probabilities: e to the power of each, divided by the sum of all.",
    task: "Give the second class more than 90 %.",
    build(done) {
      const logits = matrix("logits", [[1, 2, 0.5]], update);
      const result = make("p", { className: "sum", "aria-live": "polite" });
      update();
      return [logits, result];
      function update() {
        const found = softmaxOf(logits.rows[0]);
        result.textContent = found.map(percent).join("   ");
        done(found[1] > 0.9);
      }
    },
  }),
  lesson("A8, A13", "One step of learning", {
    text: "The loss is -log of the true class's probability. Its gradient at a logit is the probability, less 1 at the true class. A weight's gradient is that times its input. SGD with momentum: velocity = 0.9 · velocity - 0.01 · gradient; weight = weight + velocity. Here the inputs are 1 and 2, and the first class is right.",
    task: "Take steps until the loss is below 0.5.",
    build(done) {
      const inputs = [1, 2];
      const weights = [[0.1, -0.2], [0.3, 0.1]];
      const velocity = [[0, 0], [0, 0]];
      const view = make("div", { className: "products" });
      const text = make("p", { className: "sum", "aria-live": "polite" });
      const step = make("button", { type: "button" }, "Take a step");
      const state = () => {
        const found = softmaxOf(weights.map((row) => row[0] * inputs[0] + row[1] * inputs[1]));
        return { found, loss: -Math.log(found[0]), gradient: found.map((p, i) => inputs.map((x) => (p - (i ? 0 : 1)) * x)) };
      };
      step.addEventListener("click", () => {
        const { gradient } = state();
        gradient.forEach((row, i) => row.forEach((value, j) => {
          velocity[i][j] = 0.9 * velocity[i][j] - 0.01 * value;
          weights[i][j] += velocity[i][j];
        }));
        update();
      });
      update();
      return [step, view, text];
      function update() {
        const { found, loss, gradient } = state();
        view.replaceChildren(matrix("weights", weights), matrix("gradient", gradient), matrix("velocity", velocity));
        text.textContent = `probabilities ${found.map(percent).join(", ")}; loss ${loss.toFixed(4)}`;
        done(loss < 0.5);
      }
    },
  }),
  lesson("A10, A11", "Data and preprocessing", {
    text: "MNIST has 60,000 digits to train on and 10,000 to test, of 28x28 pixels. Pixels are divided by 255; a label becomes a row with a 1 at its class (one-hot).",
    task: "Which class has the label 0 0 0 1 0 0 0 0 0 0? Classes are the digits 0 to 9.",
    build: (done) => [question("Class:", (text) => text === "3", done)],
  }),
  lesson("A12", "The article's network", {
    text: "conv 32 3, relu, maxpool 2, flatten, dense 100, relu, and a dense layer of 10 with softmax. Each 3x3 filter has 9 weights and a bias, so the convolution has 320 parameters. Its maps are 26x26, after pooling 13x13.",
    task: "The dense layer of 100 reads 13 · 13 · 32 numbers. How many parameters has it, biases included?",
    build: (done) => [question("Parameters:", (text) => text === "540900", done)],
  }),
  lesson("A14 to A16", "Is it good, and for what?", {
    text: "Test accuracy tells how many new images a network gets right: over 98 % on MNIST is well trained. Look at its worst mistakes, its filters and feature maps before you trust it. Large images are reduced first: cost grows with the number of pixels.",
    task: "By what factor does the cost of a convolution fall if a 3840x2160 image is reduced to 240x135?",
    build: (done) => [question("Factor:", (text) => text === "256", done)],
  }),
];
