// Connects the page: input, worker, answer, layers, arithmetic.
import { LabClient } from "./client.js";
import { LabMatrix } from "./learn/matrix.js";
import { LabLearn } from "./learn/view.js";
import { LabAnswer } from "./views/answer.js";
import { LabArithmetic } from "./views/arithmetic.js";
import { LabBoard } from "./views/board.js";
import { byId, make } from "./views/dom.js";
import { LabLayer } from "./views/layer.js";
import { LabSeen } from "./views/seen.js";

/** @typedef {import("./network/session.js").Description} Description @typedef {import("./images/pixels.js").Pixels} Pixels */

customElements.define("lab-answer", LabAnswer);
customElements.define("lab-arithmetic", LabArithmetic);
customElements.define("lab-board", LabBoard);
customElements.define("lab-layer", LabLayer);
customElements.define("lab-matrix", LabMatrix);
customElements.define("lab-seen", LabSeen);
customElements.define("lab-learn", LabLearn);

const client = new LabClient(makeWorker());
const views = {
  board: /** @type {LabBoard} */ (document.querySelector("lab-board")),
  seen: /** @type {LabSeen} */ (document.querySelector("lab-seen")),
  answer: /** @type {LabAnswer} */ (document.querySelector("lab-answer")),
  arithmetic: /** @type {LabArithmetic} */ (document.querySelector("lab-arithmetic")),
  /** @type {LabLayer[]} */
  layers: [],
};
/** @type {Description | null} */
let opened = null;
/** @type {{stage: any, cell: number[]} | null} */
let chosen = null;
/** @type {Pixels | null} */
let seen = null;

/** In the single HTML file the worker's code is in the page. */
function makeWorker() {
  const code = document.getElementById("lab-worker")?.textContent;
  if (!code) return new Worker(new URL("worker.js", document.baseURI), { type: "module" });
  return new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
}

/** @param {string} text empty hides the message */
function say(text) {
  const message = byId("message");
  message.textContent = text;
  message.hidden = !text;
}

/** Says what went wrong instead of failing in silence. @param {() => Promise<void>} task */
async function attempt(task) {
  try {
    await task();
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
  }
}

/** @param {Uint8Array} bytes @param {string} name */
async function openModel(bytes, name) {
  /** @type {Description} */
  const description = await client.ask("load", { bytes });
  opened = description;
  chosen = null;
  views.arithmetic.close();
  views.answer.replaceChildren();
  const parameters = description.stages.reduce((sum, stage) => sum + stage.parameters, 0);
  byId("model").textContent = `${name}: ${description.architecture || "a model of another program"}; ${parameters.toLocaleString("en")} parameters`;
  say(description.note);
  views.layers = description.stages.map((stage) => {
    const layer = new LabLayer();
    layer.open(stage);
    return layer;
  });
  byId("stages").replaceChildren(...views.layers);
  byId("samples").replaceChildren(...description.samples.map(sampleButton));
  showView();
  stopEditing();
  views.board.clear(description.preprocessing.polarity === "light");
  if (description.samples.length) await openImage(fromBase64(description.samples[0].file));
  else await classifyDrawing();
}

/** The lessons at the address #learn, else the network if one is open. */
function showView() {
  const learns = location.hash === "#learn";
  const lessons = /** @type {HTMLElement} */ (document.querySelector("lab-learn"));
  lessons.hidden = !learns;
  byId("main").hidden = learns || !opened;
  byId("learn-link").textContent = learns ? "Back to the network" : "Learn";
  byId("learn-link").setAttribute("href", learns ? "#" : "#learn");
}

/** @param {{name: string, file: string}} sample */
function sampleButton({ name, file }) {
  const button = make("button", { type: "button" }, name);
  button.addEventListener("click", () => attempt(() => openImage(fromBase64(file))));
  return button;
}

/** @param {string} text */
const fromBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** @param {Uint8Array} bytes */
async function openImage(bytes) {
  const answer = await client.ask("classifyFile", { bytes });
  stopEditing();
  views.board.show(answer.decoded);
  await showAnswer(answer);
}

let busy = false;
let again = false;

/** Classifies the drawing; while the worker is busy only the newest one waits. */
async function classifyDrawing() {
  again = busy;
  if (busy) return;
  busy = true;
  try {
    await showAnswer(await client.ask("classify", { decoded: { pixels: views.board.pixels, notes: [] } }));
  } finally {
    busy = false;
  }
  if (again) await classifyDrawing();
}

/** @param {import("./network/session.js").Answer} answer */
async function showAnswer(answer) {
  if (!opened) return;
  if (opened.note === "") say("");
  const start = performance.now();
  seen = answer.pixels;
  views.seen.show(answer);
  views.answer.show(opened.classes, answer);
  for (const layer of views.layers) if (layer.stage) layer.draw(answer.values[layer.stage.value]);
  const drawn = performance.now() - start;
  byId("timing").textContent = `network ${answer.milliseconds.toFixed(1)} ms, drawing ${drawn.toFixed(1)} ms`;
  if (chosen) await explain(chosen);
}

/** @param {{stage: any, cell: number[]}} choice */
async function explain(choice) {
  const found = await client.ask("explain", { value: choice.stage.value, cell: choice.cell });
  views.arithmetic.show(choice.stage, choice.cell, found);
}

/** Shows what the network sees as numbers that can be changed. */
function startEditing() {
  if (!seen) return;
  byId("edit").setAttribute("aria-pressed", "true");
  views.board.edit(seen, (pixels) => attempt(async () => showAnswer(await client.ask("classifyPixels", { pixels }))));
}

function stopEditing() {
  byId("edit").setAttribute("aria-pressed", "false");
  views.board.edit(null);
}

/** @param {File} file */
async function openFile(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (/\.onnx$/i.test(file.name)) await openModel(bytes, file.name);
  else if (opened) await openImage(bytes);
  else say("Open a model first.");
}

/** A frame of the camera. */
async function photograph() {
  const stream = await navigator.mediaDevices.getUserMedia({ video: true });
  const video = make("video", { srcObject: stream, muted: true });
  try {
    await video.play();
    const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d")?.drawImage(video, 0, 0);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    await openImage(new Uint8Array(await blob.arrayBuffer()));
  } finally {
    for (const track of stream.getTracks()) track.stop();
  }
}

function listen() {
  views.board.addEventListener("drawn", () => attempt(classifyDrawing));
  byId("clear").addEventListener("click", () => {
    stopEditing();
    views.board.clear();
    attempt(classifyDrawing);
  });
  byId("edit").addEventListener("click", () => (byId("edit").ariaPressed === "true" ? stopEditing() : startEditing()));
  byId("camera").addEventListener("click", () => attempt(photograph));
  for (const id of ["model-file", "image-file"]) {
    byId(id).addEventListener("change", ({ target }) => {
      const input = /** @type {HTMLInputElement} */ (target);
      const [file] = input.files ?? [];
      if (file) attempt(() => openFile(file));
      input.value = "";
    });
  }
  byId("stages").addEventListener("cell", (event) => {
    chosen = /** @type {CustomEvent} */ (event).detail;
    attempt(async () => {
      if (chosen) await explain(chosen);
      views.arithmetic.focus({ preventScroll: true });
    });
  });
  window.addEventListener("hashchange", showView);
  document.addEventListener("keydown", (event) => event.key === "Escape" && views.arithmetic.close());
  document.addEventListener("paste", ({ clipboardData }) => {
    const [file] = clipboardData?.files ?? [];
    if (file) attempt(() => openFile(file));
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("drop");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget ?? document.body.classList.remove("drop"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("drop");
    const [file] = event.dataTransfer?.files ?? [];
    if (file) attempt(() => openFile(file));
  });
}

/** The model that the server offers, or that is inside the single HTML file. */
async function openFirst() {
  const inside = document.getElementById("lab-model");
  if (inside) return openModel(fromBase64(inside.textContent ?? ""), inside.dataset.name ?? "model.onnx");
  let reply = await fetch("model.onnx");
  while (reply.status === 401) {
    const token = prompt("This server asks for its token:");
    if (!token) break;
    reply = await fetch("model.onnx", { headers: { Authorization: `Bearer ${token}` } });
  }
  if (reply.ok) return openModel(new Uint8Array(await reply.arrayBuffer()), decodeURIComponent(reply.headers.get("X-Model-Name") ?? "model.onnx"));
  say("Open a model.onnx, or drop one onto this page.");
}

listen();
showView();
attempt(openFirst);
