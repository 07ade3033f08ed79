// Computes in the background, so that the page never freezes.
import { decodeImage } from "./images/decode.js";
import { openModel } from "./network/session.js";
import { nearest, readFeatures, strongest, survey } from "./network/survey.js";
import { classMaps, occlude } from "./network/why.js";

/** @type {import("./network/session.js").Session | null} */
let session = null;

/** @type {import("./network/survey.js").Surveyed[]} */
let surveyed = [];
/** @type {Float32Array[] | null} of training images */
let features = null;

function opened() {
  if (!session) throw new Error("open a model first");
  return session;
}

/** @type {Record<string, (request: any) => any>} */
const ACTIONS = {
  async load({ bytes, record }) {
    const next = await openModel(bytes, record);
    const description = next.describe();
    session = next;
    return description;
  },
  classify: ({ decoded }) => opened().classify(decoded),
  classifyPixels: ({ pixels }) => opened().answer({ pixels, notes: ["pixels edited by hand"], steps: [] }),
  async classifyFile({ bytes }) {
    const decoded = await decodeImage(bytes);
    return { ...opened().classify(decoded), decoded: decoded.pixels };
  },
  weights: ({ value }) => opened().weights(value),
  classifySwitched: (channel) => opened().switchChannel(channel),
  async classifyPrepared({ bytes }) {
    const { pixels } = await decodeImage(bytes);
    return { ...opened().answer({ pixels, notes: [], steps: [] }), decoded: pixels };
  },
  async survey({ files, from }) {
    if (from === 0) surveyed = [];
    for (const file of files) surveyed.push(survey(opened(), (await decodeImage(file)).pixels.data));
  },
  strongest: ({ count, ...channel }) => strongest(surveyed, channel, count),
  loadFeatures({ buffer, width }) {
    features = readFeatures(buffer, width);
  },
  nearest({ count }) {
    const rows = features ?? surveyed.flatMap((one) => one.features ?? []);
    return nearest(rows, opened().values.get("features")?.data ?? [], count);
  },
  classMaps: ({ targets }) => classMaps(opened(), targets),
  occlude: ({ targets, from, milliseconds }) => occlude(opened(), targets, from, milliseconds),
  explain: ({ value, cell }) => opened().explain(value, cell),
  backpropagate: ({ label }) => opened().trainer.backpropagate(opened().values, label),
  weightGradient: ({ name, index }) => opened().trainer.weight(name, index),
  step({ rate, momentum, one }) {
    opened().trainer.step(rate, momentum, one);
    return opened().answerAgain();
  },
  undoSteps() {
    opened().trainer.reset();
    return opened().answerAgain();
  },
};

self.addEventListener("message", async ({ data: { id, action, ...request } }) => {
  try {
    const result = await ACTIONS[action](request);
    const transfer = result?.probabilities ? Object.values(result.values).map((values) => values.buffer) : [];
    self.postMessage({ id, result }, { transfer });
  } catch (error) {
    self.postMessage({ id, error: error instanceof Error ? error.message : String(error) });
  }
});
