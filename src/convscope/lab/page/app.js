// Connects the parts of the page: each is told of the opened network, of each answer and of the chosen cell (lab.js).
import { LabClient } from "./client.js";
import { LabBoard } from "./input/board.js";
import { fromBase64, Input, listenForFiles } from "./input/input.js";
import { LabPixels } from "./input/pixels.js";
import { Lab } from "./lab.js";
import { LabLayer } from "./layers/layer.js";
import { LabLayers } from "./layers/layers.js";
import { LabMaps } from "./layers/maps.js";
import { LabWeights } from "./layers/weights.js";
import { LabMatrix } from "./learn/matrix.js";
import { LabLearn } from "./learn/view.js";
import { LabAnswer } from "./views/answer.js";
import { LabArithmetic } from "./views/arithmetic.js";
import { LabBackprop } from "./views/backprop.js";
import { LabCompare } from "./views/compare.js";
import { byId } from "./views/dom.js";
import { LabSeen } from "./views/seen.js";
import { LabChannels } from "./why/channels.js";
import { LabWhy } from "./why/regions.js";

// To add a part: a row here, and its tag in index.html. Its methods are those of `Part` in lab.js.
const ELEMENTS = {
  "lab-pixels": LabPixels,
  "lab-board": LabBoard,
  "lab-maps": LabMaps,
  "lab-weights": LabWeights,
  "lab-layer": LabLayer,
  "lab-matrix": LabMatrix,
  "lab-learn": LabLearn,
  "lab-seen": LabSeen,
  "lab-answer": LabAnswer,
  "lab-compare": LabCompare,
  "lab-why": LabWhy,
  "lab-channels": LabChannels,
  "lab-layers": LabLayers,
  "lab-arithmetic": LabArithmetic,
  "lab-backprop": LabBackprop,
};

const lab = new Lab(new LabClient(makeWorker()));
for (const [tag, type] of Object.entries(ELEMENTS)) {
  customElements.define(tag, type);
  for (const element of document.querySelectorAll(tag)) lab.join(/** @type {any} */ (element));
}
const input = new Input(/** @type {LabBoard} */ (document.querySelector("lab-board")), lab);
lab.join(input);

/** In the single HTML file the worker's code is in the page. */
function makeWorker() {
  const code = document.getElementById("lab-worker")?.textContent;
  if (!code) return new Worker(new URL("worker.js", document.baseURI), { type: "module" });
  return new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
}

/** @type {{bytes: Uint8Array, name: string}} */
let newest = { bytes: new Uint8Array(), name: "" };

/** @param {Uint8Array} bytes @param {string} name @param {string} [record] JSON that describes the model */
async function openModel(bytes, name, record) {
  /** @type {import("./network/session.js").Description} */
  const description = await lab.ask("load", { bytes, record });
  newest = { bytes, name };
  const parameters = description.stages.reduce((sum, stage) => sum + stage.parameters, 0);
  byId("model").textContent = `${name}: ${description.architecture || "a model of another program"}; ${parameters.toLocaleString("en")} parameters`;
  lab.say(description.note);
  lab.opened(description);
  showView();
}

/** The lessons at the addresses #learn and #learn-N, else the network if one is open. */
function showView() {
  const learns = location.hash.startsWith("#learn");
  const lessons = /** @type {HTMLElement} */ (document.querySelector("lab-learn"));
  lessons.hidden = !learns;
  byId("main").hidden = learns || !lab.description;
  byId("learn-link").textContent = learns ? "To the network" : "Learn";
  byId("learn-link").setAttribute("href", learns ? "#" : "#learn");
}

/** @param {File} file */
async function openFile(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (/\.onnx$/i.test(file.name)) await openModel(bytes, file.name);
  else if (/\.json$/i.test(file.name) && newest.name) await openModel(newest.bytes, newest.name, await file.text());
  else if (lab.description) await input.openImage(bytes);
  else lab.say("Open a model first.");
}

/** @param {object | null} inside images of the data set; null if the server has them */
function offerSamples(inside) {
  document.dispatchEvent(new CustomEvent("samples", { detail: { lab, input, inside } }));
}

/** The model that the server offers, or that is inside the single HTML file. */
async function openFirst() {
  const inside = document.getElementById("lab-model");
  const samples = document.getElementById("lab-samples");
  if (samples) offerSamples(JSON.parse(samples.textContent ?? ""));
  if (inside) return openModel(fromBase64(inside.textContent ?? ""), inside.dataset.name ?? "model.onnx");
  let reply = await fetch("model.onnx");
  while (reply.status === 401) {
    const token = prompt("This server asks for its token:");
    if (!token) break;
    reply = await fetch("model.onnx", { headers: { Authorization: `Bearer ${token}` } });
  }
  if (reply.headers.has("X-Lab-Samples")) offerSamples(null);
  if (reply.ok) return openModel(new Uint8Array(await reply.arrayBuffer()), decodeURIComponent(reply.headers.get("X-Model-Name") ?? "model.onnx"));
  lab.say("Open a model.onnx, or drop one onto this page.");
}

window.addEventListener("hashchange", showView);
listenForFiles((file) => lab.attempt(() => openFile(file)));
showView();
lab.attempt(openFirst);
