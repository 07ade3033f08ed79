// Maps, or a vector, on one canvas: pages of maps, zoom, and a cell that clicks and keys choose.
import { make, short } from "../views/dom.js";

/** @typedef {[number, number, number]} Cell map, row, column @typedef {import("./colors.js").Scale} Scale */

const PAGE = 64; // maps
const LONG = 200; // values of a vector, which is then drawn without gaps
const MAX_ZOOM = 8;

/** Fires "pick" with the cell as its detail. */
export class LabMaps extends HTMLElement {
  count = 0;
  tall = 1;
  wide = 1;
  gap = 1;
  perPage = PAGE;
  isVector = false;
  what = "map";
  base = 1;
  /** @type {HTMLElement | null} */
  place = null;
  page = 0;
  zoom = 1;
  columns = 1;
  /** @type {Cell} */
  cell = [0, 0, 0];
  /** @type {Float32Array} */
  values = new Float32Array();
  /** @type {Scale | null} */
  scale = null;
  canvas = make("canvas", { tabIndex: 0, role: "application", "aria-roledescription": "feature maps" });
  mark = make("div", { className: "mark", hidden: true });
  resized = new ResizeObserver(() => this.mark.hidden || this.showMark()); // as when the arithmetic opens
  live = make("p", { className: "reading", "aria-live": "polite" });
  tools = make("div", { className: "row tools" });
  /** @type {ImageData | null} */
  frame = null;

  /** @param {string} label of the canvas @param {number[]} shape (maps, height, width) or (units) @param {string} [what] one map is called */
  open(label, [count, tall = 1, wide = 1], what = "map") {
    const isVector = tall * wide === 1;
    Object.assign(this, { count, tall, wide, what, isVector, page: 0, zoom: 1, frame: null, gap: isVector && count > LONG ? 0 : 1 });
    this.cell = [0, 0, 0];
    this.mark.hidden = true;
    this.perPage = isVector ? count : PAGE;
    const help = `Arrow keys choose a cell${isVector ? "" : ", Page keys a map"}, Enter selects it, plus and minus zoom.`;
    this.canvas.setAttribute("aria-label", `${label}. ${help}`);
    this.replaceChildren(make("div", { className: "maps" }, this.canvas, this.mark), this.tools, this.live);
    this.resized.observe(this.canvas);
    this.canvas.onclick = (event) => this.pick(event);
    this.canvas.onkeydown = (event) => this.press(event);
    this.offerTools(label);
    this.arrange();
  }

  /** Buttons for the zoom and the page. @param {string} label */
  offerTools(label) {
    const button = (/** @type {string} */ text, /** @type {string} */ name, /** @type {() => void} */ act) => {
      const made = make("button", { type: "button", "aria-label": `${name}: ${label}` }, text);
      made.addEventListener("click", act);
      return made;
    };
    const place = make("span", { className: "facts" });
    this.place = place;
    const turn = [button("\u2039", "Previous maps", () => this.turn(this.page - 1)), place, button("\u203a", "Next maps", () => this.turn(this.page + 1))];
    this.tools.replaceChildren(
      button("\u2212", "Smaller", () => this.enlarge(this.zoom / 2)),
      button("+", "Larger", () => this.enlarge(this.zoom * 2)),
      ...(this.count > this.perPage ? turn : []),
    );
  }

  get shown() {
    return Math.min(this.count - this.page * this.perPage, this.perPage);
  }

  /** Chooses columns and size, so that maps are readable at any number. */
  arrange() {
    const { count, shown, tall, wide, gap, canvas, isVector } = this;
    const first = Math.min(count, this.perPage);
    const many = first > LONG;
    const ideal = isVector ? (many ? 104 : 25) : Math.max(1, Math.round(Math.sqrt((first * 2.2 * tall) / wide)));
    const even = [0, 1, -1, 2, -2].map((step) => ideal + step).find((columns) => columns > 0 && first % columns === 0);
    this.columns = Math.min(first, even ?? ideal);
    canvas.width = this.columns * (wide + gap) - gap;
    canvas.height = Math.ceil(shown / this.columns) * (tall + gap) - gap;
    this.base = isVector ? (many ? 8 : 26) : Math.max(1, Math.min(160 / wide, 900 / canvas.width));
    if (this.place) this.place.textContent = `maps ${this.page * this.perPage} to ${this.page * this.perPage + shown - 1} of ${count}`;
    this.frame = null;
    this.enlarge(this.zoom);
  }

  /** @param {number} zoom 1 to 8 */
  enlarge(zoom) {
    this.zoom = Math.min(Math.max(zoom, 1), MAX_ZOOM);
    const { canvas, base } = this;
    Object.assign(canvas.style, { width: `${Math.round(canvas.width * base)}px`, maxWidth: "100%" });
    if (this.zoom > 1) {
      const width = canvas.getBoundingClientRect().width * this.zoom;
      Object.assign(canvas.style, { width: `${width}px`, maxWidth: "none" });
    }
    const [smaller, larger] = this.tools.querySelectorAll("button");
    smaller.setAttribute("aria-disabled", String(this.zoom === 1));
    larger.setAttribute("aria-disabled", String(this.zoom === MAX_ZOOM));
    if (!this.mark.hidden) this.showMark();
  }

  /** @param {number} page */
  turn(page) {
    const last = Math.ceil(this.count / this.perPage) - 1;
    const next = Math.min(Math.max(page, 0), last);
    if (next === this.page) return;
    this.page = next;
    this.mark.hidden = true;
    this.arrange();
    if (this.scale) this.draw(this.values, this.scale);
  }

  /** @param {Float32Array} values @param {Scale} scale */
  draw(values, scale) {
    const context = this.canvas.getContext("2d");
    if (!context || !this.count) return;
    Object.assign(this, { values, scale });
    const { columns, tall, wide, gap } = this;
    const { colors, low, high } = scale;
    const factor = 255.99 / (high - low);
    this.frame ??= context.createImageData(this.canvas.width, this.canvas.height);
    const pixels = new Uint32Array(this.frame.data.buffer);
    for (let map = 0, from = this.page * this.perPage * tall * wide; map < this.shown; map++) {
      const top = Math.floor(map / columns) * (tall + gap), left = (map % columns) * (wide + gap);
      for (let row = 0; row < tall; row++) {
        for (let column = 0, to = (top + row) * this.frame.width + left; column < wide; column++) {
          pixels[to++] = colors[((values[from++] - low) * factor) | 0];
        }
      }
    }
    context.putImageData(this.frame, 0, 0);
  }

  /** @param {MouseEvent} event */
  pick(event) {
    const { columns, shown, tall, wide, gap, canvas } = this;
    const box = canvas.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * canvas.width);
    const y = Math.floor(((event.clientY - box.top) / box.height) * canvas.height);
    const map = Math.floor(y / (tall + gap)) * columns + Math.floor(x / (wide + gap));
    if (map >= shown) return;
    this.cell = [map + this.page * this.perPage, Math.min(y % (tall + gap), tall - 1), Math.min(x % (wide + gap), wide - 1)];
    this.choose();
  }

  /** @param {KeyboardEvent} event */
  press(event) {
    const { key } = event;
    const step = this.stepOf(key);
    if (key === "Enter" || key === " ") this.choose();
    else if (key === "+" || key === "=") this.enlarge(this.zoom * 2);
    else if (key === "-") this.enlarge(this.zoom / 2);
    else if (step) {
      this.point(/** @type {Cell} */ (this.cell.map((index, i) => index + step[i])));
      this.mark.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else return;
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

  /** Marks a cell, and turns to its page. @param {Cell} cell is limited to the maps */
  point(cell) {
    const sides = [this.count, this.tall, this.wide];
    this.cell = /** @type {Cell} */ (cell.map((index, i) => Math.min(Math.max(index, 0), sides[i] - 1)));
    this.turn(Math.floor(this.cell[0] / this.perPage));
    this.showMark();
    const [map, row, column] = this.cell;
    const place = this.isVector ? `unit ${map}` : `${this.what} ${map}, row ${row}, column ${column}`;
    this.live.textContent = `${place}: ${short(this.values[(map * this.tall + row) * this.wide + column])}`;
  }

  choose() {
    this.point(this.cell);
    this.dispatchEvent(new CustomEvent("pick", { detail: this.cell }));
  }

  hideMark() {
    this.mark.hidden = true;
    this.live.textContent = "";
  }

  showMark() {
    const { cell, columns, tall, wide, gap, canvas, mark } = this;
    const size = canvas.getBoundingClientRect().width / canvas.width;
    const map = cell[0] - this.page * this.perPage;
    const left = ((map % columns) * (wide + gap) + cell[2]) * size;
    const top = (Math.floor(map / columns) * (tall + gap) + cell[1]) * size;
    const side = `${Math.max(size, 4)}px`;
    Object.assign(mark.style, { left: `${left}px`, top: `${top}px`, width: side, height: side });
    mark.hidden = false;
  }
}
