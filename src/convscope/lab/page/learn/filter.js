// The lesson of classic kernels on the opened image.
import { make, paint, short } from "../views/dom.js";
import { filterImage, sumOf } from "./arithmetic.js";
import { drawDigits } from "./digits.js";
import { LabMatrix } from "./matrix.js";
import { choice, row, side } from "./parts.js";

const LARGEST = 320; // pixels of a side

/** @type {Record<string, number[]>} row by row */
const KERNELS = {
  identity: [0, 0, 0, 0, 1, 0, 0, 0, 0],
  "vertical edges (Sobel x)": [-1, 0, 1, -2, 0, 2, -1, 0, 1],
  "horizontal edges (Sobel y)": [-1, -2, -1, 0, 0, 0, 1, 2, 1],
  sharpen: [0, -1, 0, -1, 5, -1, 0, -1, 0],
  blur: [1, 2, 1, 2, 4, 2, 1, 2, 1].map((weight) => weight / 16),
  emboss: [-2, -1, 0, -1, 1, 1, 0, 1, 2],
};

/** @param {import("./parts.js").Lab} lab @returns {import("./parts.js").Example} */
export function buildFilter(lab) {
  const kernel = new LabMatrix(), name = choice("Kernel", Object.keys(KERNELS), "identity", choose);
  const file = make("input", { type: "file", accept: "image/*", "aria-label": "Open an image" });
  const canvases = ["before", "after"].map((one) => make("canvas", { role: "img", "aria-label": `The image ${one}` }));
  const weights = () => kernel.rows.flat();
  const context = (/** @type {number} */ i) => /** @type {CanvasRenderingContext2D} */ (canvases[i].getContext("2d", { willReadFrequently: true }));
  file.addEventListener("change", () => lab.attempt(async () => {
    if (file.files?.[0]) show(await createImageBitmap(file.files[0]));
  }));
  lab.join({ answered: showOpened });
  const image = make("div", { className: "filtered" }, ...canvases);
  choose();
  show(drawDigits()[3]);
  if (lab.answer?.pixels.data.some((value, _, all) => value !== all[0])) showOpened(lab.answer);
  const lacks = () => {
    const sum = sumOf(weights());
    if (!weights().some(Boolean)) return "Now all is black, not only where pixels are equal: some weights must not be 0.";
    return Math.abs(sum) < 1e-9 ? "" : `The weights add up to ${short(sum)}, so equal pixels of 100 become ${short(100 * sum)}.`;
  };
  return [lacks, row(name.label, file), side(kernel, image)];

  function choose() {
    const flat = KERNELS[name.select.value];
    kernel.open("kernel", [0, 3, 6].map((start) => flat.slice(start, start + 3)), draw);
    draw();
  }
  /** @param {import("../lab.js").Answer & {decoded?: import("../images/pixels.js").Pixels}} answer */
  function showOpened({ decoded, pixels }) {
    const canvas = make("canvas");
    paint(canvas, decoded ?? pixels);
    show(canvas);
  }
  /** @param {HTMLCanvasElement | ImageBitmap} source */
  function show(source) {
    const scale = Math.min(1, LARGEST / Math.max(source.width, source.height));
    const [width, height] = [source.width, source.height].map((one) => Math.max(1, Math.round(one * scale)));
    for (const canvas of canvases) Object.assign(canvas, { width, height });
    context(0).drawImage(source, 0, 0, width, height);
    draw();
  }
  function draw() {
    const { width, height } = canvases[0];
    context(1).putImageData(filterImage(context(0).getImageData(0, 0, width, height), weights()), 0, 0);
  }
}
