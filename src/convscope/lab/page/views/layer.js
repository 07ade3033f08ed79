// A layer: its maps, or its vector, on one canvas; clicks and keys choose a cell.
import { colorScale } from "./colors.js";
import { make, short } from "./dom.js";

/** @typedef {import("../network/stages.js").Stage} Stage @typedef {[number, number, number]} Cell map, row, column */

const FIRST_MAPS = 64;
const LONG = 200; // values of a vector, which is then drawn without gaps

/** Fires "cell" with {stage, cell} as its detail. */
export class LabLayer extends HTMLElement {
  /** @type {Stage | null} */
  stage = null;
  /** @type {Float32Array} */
  values = new Float32Array();
  tall = 1;
  wide = 1;
  shown = 0;
  columns = 1;
  gap = 1;
  isVector = false;
  /** @type {Cell} */
  cell = [0, 0, 0];
  canvas = make("canvas", { tabIndex: 0, role: "application", "aria-roledescription": "feature maps" });
  mark = make("div", { className: "mark", hidden: true });
  live = make("p", { className: "hidden", "aria-live": "polite" });
  range = make("span", { className: "facts" });
  /** @type {ImageData | null} */
  frame = null;

  /** @param {Stage} stage */
  open(stage) {
    const [count, height = 1, width = 1] = stage.shape;
    this.isVector = height * width === 1;
    Object.assign(this, { stage, tall: height, wide: width, gap: this.isVector && count > LONG ? 0 : 1 });
    this.shown = this.isVector ? count : Math.min(count, FIRST_MAPS);
    const shape = this.isVector ? `${count} values` : `${count} ${count === 1 ? "map" : "maps"} of ${height}x${width}`;
    const help = "Arrow keys choose a cell, Enter shows its arithmetic, Page keys change the map.";
    this.canvas.setAttribute("aria-label", `${stage.name}, ${shape}. ${help}`);
    const more = make("button", { type: "button", hidden: this.shown === count }, `Show all ${count} maps`);
    more.addEventListener("click", () => {
      this.shown = count;
      more.hidden = true;
      this.arrange();
      this.draw(this.values);
    });
    const title = make("div", { className: "row spread" }, make("h3", {}, stage.name), this.range);
    const maps = make("div", { className: "maps" }, this.canvas, this.mark);
    this.replaceChildren(title, make("p", { className: "facts" }, factsOf(stage, shape)), maps, this.live, more);
    this.arrange();
    this.canvas.addEventListener("click", (event) => this.pick(event));
    this.canvas.addEventListener("keydown", (event) => this.press(event));
  }

  /** Chooses columns and size, so that maps are readable at any number. */
  arrange() {
    const { shown, tall, wide, gap, canvas, isVector } = this;
    const many = shown > LONG;
    const ideal = isVector ? (many ? 104 : 25) : Math.max(1, Math.round(Math.sqrt((shown * 2.2 * tall) / wide)));
    const even = [0, 1, -1, 2, -2].map((step) => ideal + step).find((columns) => columns > 0 && shown % columns === 0);
    this.columns = Math.min(shown, even ?? ideal);
    canvas.width = this.columns * (wide + gap) - gap;
    canvas.height = Math.ceil(shown / this.columns) * (tall + gap) - gap;
    const scale = isVector ? (many ? 8 : 26) : Math.max(1, Math.min(160 / wide, 900 / canvas.width));
    canvas.style.width = `${Math.round(canvas.width * scale)}px`;
    canvas.style.maxWidth = isVector || shown <= FIRST_MAPS ? "100%" : "none";
    this.frame = null;
  }

  /** @param {Float32Array} values */
  draw(values) {
    const context = this.canvas.getContext("2d");
    if (!context) return;
    this.values = values;
    const { columns, tall, wide, gap } = this;
    const { colors, low, high } = colorScale(values);
    const factor = 255.99 / (high - low);
    this.frame ??= context.createImageData(this.canvas.width, this.canvas.height);
    const pixels = new Uint32Array(this.frame.data.buffer);
    for (let map = 0, from = 0; map < this.shown; map++) {
      const top = Math.floor(map / columns) * (tall + gap), left = (map % columns) * (wide + gap);
      for (let row = 0; row < tall; row++) {
        for (let column = 0, to = (top + row) * this.frame.width + left; column < wide; column++) {
          pixels[to++] = colors[((values[from++] - low) * factor) | 0];
        }
      }
    }
    context.putImageData(this.frame, 0, 0);
    this.range.textContent = `${short(low)} to ${short(high)}`;
  }

  /** @param {MouseEvent} event */
  pick(event) {
    const { columns, shown, tall, wide, gap, canvas } = this;
    const box = canvas.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * canvas.width);
    const y = Math.floor(((event.clientY - box.top) / box.height) * canvas.height);
    const map = Math.floor(y / (tall + gap)) * columns + Math.floor(x / (wide + gap));
    if (map >= shown) return;
    this.cell = [map, Math.min(y % (tall + gap), tall - 1), Math.min(x % (wide + gap), wide - 1)];
    this.choose();
  }

  /** @param {KeyboardEvent} event */
  press(event) {
    if (event.key === "Enter" || event.key === " ") {
      this.choose();
    } else {
      const step = this.stepOf(event.key);
      if (!step) return;
      const sides = [this.shown, this.tall, this.wide];
      const moved = this.cell.map((index, i) => Math.min(Math.max(index + step[i], 0), sides[i] - 1));
      this.cell = /** @type {Cell} */ (moved);
      this.showMark();
      const [map, row, column] = this.cell;
      const place = this.isVector ? `unit ${map}` : `map ${map}, row ${row}, column ${column}`;
      this.live.textContent = `${place}: ${short(this.values[(map * this.tall + row) * this.wide + column])}`;
    }
    event.preventDefault();
  }

  /** How a key moves the cell. @param {string} key @returns {Cell | null} */
  stepOf(key) {
    const { columns, isVector } = this;
    if (key === "PageUp") return [-1, 0, 0];
    if (key === "PageDown") return [1, 0, 0];
    if (key === "ArrowLeft") return isVector ? [-1, 0, 0] : [0, 0, -1];
    if (key === "ArrowRight") return isVector ? [1, 0, 0] : [0, 0, 1];
    if (key === "ArrowUp") return isVector ? [-columns, 0, 0] : [0, -1, 0];
    if (key === "ArrowDown") return isVector ? [columns, 0, 0] : [0, 1, 0];
    return null;
  }

  choose() {
    this.showMark();
    const cell = this.isVector ? this.cell.slice(0, 1) : this.cell;
    this.dispatchEvent(new CustomEvent("cell", { bubbles: true, detail: { stage: this.stage, cell } }));
  }

  showMark() {
    const { cell, columns, tall, wide, gap, canvas, mark } = this;
    const size = canvas.getBoundingClientRect().width / canvas.width;
    const left = ((cell[0] % columns) * (wide + gap) + cell[2]) * size;
    const top = (Math.floor(cell[0] / columns) * (tall + gap) + cell[1]) * size;
    Object.assign(mark.style, { left: `${left}px`, top: `${top}px`, width: `${size}px`, height: `${size}px` });
    mark.hidden = false;
  }
}

/** @param {Stage} stage @param {string} shape in words */
function factsOf({ summary, parameters, macs }, shape) {
  const parts = [summary, shape];
  if (parameters) parts.push(`${parameters.toLocaleString("en")} parameters`);
  if (macs) parts.push(`${macs.toLocaleString("en")} multiply-adds`);
  return parts.join(" · ");
}
