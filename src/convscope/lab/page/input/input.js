// Where images come from: the board, files, the clipboard, the camera, the examples in the model file.
import { byId, make } from "../views/dom.js";

/** @typedef {import("../network/session.js").Description} Description */

/** @param {string} text */
export const fromBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

export class Input {
  busy = false;
  again = false;

  /** @param {import("./board.js").LabBoard} board @param {import("../lab.js").Lab} lab */
  constructor(board, lab) {
    this.board = board;
    this.lab = lab;
    board.addEventListener("drawn", () => lab.attempt(() => this.classifyDrawing()));
    byId("clear").addEventListener("click", () => {
      this.stopEditing();
      board.clear();
      lab.attempt(() => this.classifyDrawing());
    });
    byId("edit").addEventListener("click", () => (board.grid.hidden ? this.startEditing() : this.stopEditing()));
    byId("camera").addEventListener("click", () => lab.attempt(async () => this.openImage(await photograph())));
  }

  /** @param {Description} description */
  opened({ samples, preprocessing }) {
    byId("samples").replaceChildren(...samples.map((sample) => this.sampleButton(sample)));
    this.stopEditing();
    this.board.clear(preprocessing.polarity === "light");
    const [first] = samples;
    this.lab.attempt(() => (first ? this.openImage(fromBase64(first.file)) : this.classifyDrawing()));
  }

  /** @param {{name: string, file: string}} sample */
  sampleButton({ name, file }) {
    const button = make("button", { type: "button" }, name);
    button.addEventListener("click", () => this.lab.attempt(() => this.openImage(fromBase64(file))));
    return button;
  }

  /** @param {Uint8Array} bytes @param {string} action */
  async openImage(bytes, action = "classifyFile") {
    const answer = await this.lab.ask(action, { bytes });
    this.stopEditing();
    this.board.show(answer.decoded);
    this.lab.answered(answer);
  }

  /** Classifies the drawing; while the worker is busy only the newest one waits. @returns {Promise<void>} */
  async classifyDrawing() {
    this.again = this.busy;
    if (this.busy) return;
    this.busy = true;
    try {
      this.lab.answered(await this.lab.ask("classify", { decoded: { pixels: this.board.pixels, notes: [] } }));
    } finally {
      this.busy = false;
    }
    if (this.again) await this.classifyDrawing();
  }

  /** Shows what the network sees as numbers that can be changed. */
  startEditing() {
    const { board, lab } = this;
    if (!lab.answer) return;
    byId("edit").setAttribute("aria-pressed", "true");
    board.edit(lab.answer.pixels, (pixels) => lab.attempt(async () => lab.answered(await lab.ask("classifyPixels", { pixels }))));
  }

  stopEditing() {
    byId("edit").setAttribute("aria-pressed", "false");
    this.board.edit(null);
  }
}

/** A frame of the camera, as a PNG file. */
async function photograph() {
  const stream = await navigator.mediaDevices.getUserMedia({ video: true });
  const video = make("video", { srcObject: stream, muted: true });
  try {
    await video.play();
    const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d")?.drawImage(video, 0, 0);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    return new Uint8Array(await blob.arrayBuffer());
  } finally {
    for (const track of stream.getTracks()) track.stop();
  }
}

/** Calls back with each file that is picked, pasted or dropped. @param {(file: File) => void} open */
export function listenForFiles(open) {
  const first = (/** @type {FileList | null | undefined} */ files) => files?.[0] && open(files[0]);
  for (const id of ["model-file", "image-file"]) {
    byId(id).addEventListener("change", ({ target }) => {
      const input = /** @type {HTMLInputElement} */ (target);
      first(input.files);
      input.value = "";
    });
  }
  const mark = (/** @type {boolean} */ isOver) => document.body.classList.toggle("drop", isOver);
  document.addEventListener("paste", ({ clipboardData }) => first(clipboardData?.files));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    mark(true);
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget ?? mark(false));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false);
    first(event.dataTransfer?.files);
  });
}
