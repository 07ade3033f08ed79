// Answers requests of the tests in Node: a line of JSON each, arrays in Base64. The page's folder is the argument.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const page = pathToFileURL(`${process.argv[2]}/`);
const load = (path) => import(new URL(path, page));
const { parseModel, isIntact } = await load("onnx/model.js");
const { planModel, runPlan } = await load("ops/execute.js");
const { preprocess } = await load("images/preprocess.js");
const { openModel } = await load("network/session.js");
const { decodeImage } = await load("images/decode.js");
const { classMaps, occlude } = await load("network/why.js");
const { coverWithPatches, spreadDrops } = await load("network/patches.js");
const { unlikeNotes } = await load("images/typical.js");
const { nearest, readFeatures, strongest, survey } = await load("network/survey.js");
const { Trainer } = await load("backprop/trainer.js");

const decode = (text) => new Uint8Array(Buffer.from(text, "base64"));
const encode = (array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("base64");
const pack = ({ data, ...rest }) => ({ ...rest, dtype: data.constructor.name, data: encode(data) });
let plan, session, trainer;

const actions = {
  load({ model }) {
    const bytes = decode(model);
    const parsed = parseModel(bytes);
    plan = planModel(parsed);
    trainer = undefined;
    return isIntact(bytes, parsed).then((intact) => ({ intact, nodes: plan.nodes.length }));
  },
  run({ shape, data, type = "uint8", names }) {
    const array = type === "uint8" ? decode(data) : new Float32Array(decode(data).buffer);
    const start = performance.now();
    const values = runPlan(plan, { type, shape, data: array });
    const seconds = (performance.now() - start) / 1000;
    const chosen = names ?? [...values.keys()];
    return {
      seconds,
      values: Object.fromEntries(
        chosen.map((name) => {
          const { shape, data } = values.get(name);
          return [name, pack({ shape, data })];
        }),
      ),
    };
  },
  async open({ model, record }) {
    session = await openModel(decode(model), record);
    return session.describe();
  },
  async classify({ file }) {
    const { values, pixels, steps, ...answer } = session.classify(await decodeImage(decode(file)));
    return { ...answer, pixels: pack(pixels), steps: steps.map((step) => step.name), values: Object.keys(values) };
  },
  /** Loss and gradients of the opened model for an image, and the terms of one weight of each array. */
  backpropagate({ shape, data, label }) {
    const values = runPlan(plan, { type: "uint8", shape, data: decode(data) });
    trainer ??= new Trainer(plan);
    const { weights, ...rest } = trainer.backpropagate(values, label);
    const arrays = weights.map(({ name, layer, kind, shape }) => {
      const index = shape.map((side, axis) => (axis * 31 + 7) % side);
      const gradient = { shape, ...pack({ data: trainer.gradients.get(name) }) };
      const value = pack({ data: plan.constants.get(name).data });
      return { name, layer, kind, gradient, value: { shape, ...value }, index, weight: trainer.weight(name, index) };
    });
    return { ...rest, arrays };
  },
  step({ rate, momentum, one }) {
    trainer.step(rate, momentum, one);
    return {};
  },
  reset() {
    trainer.reset();
    return {};
  },
  classMaps({ targets }) {
    const { heats, ...found } = classMaps(session, targets);
    return { ...found, heats: heats.map(pack) };
  },
  occlude({ targets }) {
    const { height, width } = session.prepared.pixels;
    const patches = coverWithPatches(height, width);
    const drops = [];
    while (drops.length < patches.rows.length * patches.columns.length) drops.push(...occlude(session, targets, drops.length, 5));
    const heats = targets.map((_, i) => pack(spreadDrops(drops.map((drop) => drop[i]), patches, height, width)));
    return { patches, drops, heats };
  },
  async survey({ files, channel, count, features, width }) {
    const surveyed = [];
    for (const file of files) surveyed.push(survey(session, (await decodeImage(decode(file))).pixels.data));
    const rows = features ? readFeatures(decode(features).slice().buffer, width) : surveyed.map((one) => one.features);
    return {
      strongest: strongest(surveyed, channel, count),
      nearest: nearest(rows, session.values.get("features").data, count),
    };
  },
  switchChannel({ channel }) {
    const { probabilities, before, off, values } = session.switchChannel(channel);
    return { probabilities, before, off, values: pack({ data: values[channel.value] }) };
  },
  /** The arithmetic of some cells of every layer. */
  cells({ count }) {
    return session.stages.flatMap(({ value, shape, operator, name }) =>
      Array.from({ length: count }, (_, i) => {
        const cell = shape.map((side, axis) => (i * 7919 + axis * 31 + i * axis) % side);
        return { name, operator, cell, ...session.explain(value, cell) };
      }),
    );
  },
  unlike: ({ typical, data, ...rest }) => ({ notes: unlikeNotes(typical, { ...rest, data: decode(data) }) }),
  async file({ file, record }) {
    const decoded = await decodeImage(decode(file));
    return record ? actions.pixels({ record, decoded }) : { pixels: pack(decoded.pixels), notes: decoded.notes, deep: decoded.deep && encode(decoded.deep) };
  },
  pixels({ record, decoded, height, width, channels, data, deep, notes = [] }) {
    const image = decoded ?? { pixels: { height, width, channels, data: decode(data) }, notes };
    if (deep) image.deep = new Uint16Array(decode(deep).buffer);
    const { pixels, notes: found, steps } = preprocess(record, image);
    return { pixels: pack(pixels), notes: found, steps: steps.map((step) => step.name) };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { action, ...request } = JSON.parse(line);
  let reply;
  try {
    reply = await actions[action](request);
  } catch (error) {
    reply = { error: error.message, kind: error.constructor.name, stack: error.stack };
  }
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
