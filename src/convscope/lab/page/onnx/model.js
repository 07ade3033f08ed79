// ONNX's ModelProto to nodes and constants.
import { ModelError, asBytes, asNumbers, asText, fields } from "./protobuf.js";
import { readTensor, typeOf } from "./tensor.js";

/**
 * @typedef {import("./tensor.js").Tensor} Tensor
 * @typedef {Record<string, any>} Attributes numbers, texts, lists of numbers, or tensors
 * @typedef {{operator: string, name: string, inputs: string[], outputs: string[], attributes: Attributes}} Node
 * @typedef {{name: string, type: import("./tensor.js").Type, shape: (number | string)[]}} Port
 *
 * @typedef {object} Model
 * @property {Node[]} nodes in an order in which they can be computed
 * @property {Map<string, Tensor>} constants
 * @property {Port} input of images
 * @property {string[]} outputs
 * @property {number} opset
 * @property {Map<string, string>} metadata
 */

const DIGEST_KEY = "convscope.sha256";
const DIGEST_BYTES = 86; // of the last metadata entry

/**
 * Reads an ONNX file. Throws ModelError for anything else.
 * @param {Uint8Array} bytes
 * @returns {Model}
 */
export function parseModel(bytes) {
  try {
    return readModel(bytes);
  } catch (error) {
    if (error instanceof ModelError) throw error;
    throw new ModelError(`the file is damaged (${error instanceof Error ? error.message : error})`);
  }
}

/** @param {Uint8Array} bytes @returns {Model} */
function readModel(bytes) {
  /** @type {Uint8Array | null} */
  let graph = null;
  let opset = 0;
  /** @type {Map<string, string>} */
  const metadata = new Map();
  for (const field of fields(bytes)) {
    if (field.number === 7) graph = asBytes(field);
    else if (field.number === 14) metadata.set(...readPair(asBytes(field)));
    else if (field.number === 8) opset = readOpset(asBytes(field)) ?? opset;
  }
  if (!graph || !opset) throw new ModelError("expected an ONNX file, got another kind of file");
  return { ...readGraph(graph), opset, metadata };
}

/**
 * Whether the checksum of a convscope file is right; true for files of other programs, which have none.
 * @param {Uint8Array} bytes @param {Model} model
 */
export async function isIntact(bytes, model) {
  const expected = model.metadata.get(DIGEST_KEY);
  if (expected === undefined || !globalThis.crypto?.subtle) return true;
  const content = bytes.slice(0, Math.max(0, bytes.length - DIGEST_BYTES));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return expected === Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {Uint8Array} bytes @returns {[string, string]} */
function readPair(bytes) {
  let key = "", value = "";
  for (const field of fields(bytes)) {
    if (field.number === 1) key = asText(field);
    if (field.number === 2) value = asText(field);
  }
  return [key, value];
}

/** The version of ONNX's own operators; null for other sets. @param {Uint8Array} bytes */
function readOpset(bytes) {
  let domain = "", version = 0;
  for (const field of fields(bytes)) {
    if (field.number === 1) domain = asText(field);
    if (field.number === 2) version = field.value;
  }
  return domain === "" || domain === "ai.onnx" ? version : null;
}

/** @param {Uint8Array} bytes */
function readGraph(bytes) {
  /** @type {Node[]} */
  const nodes = [];
  /** @type {Map<string, Tensor>} */
  const constants = new Map();
  /** @type {Port[]} */
  const inputs = [];
  /** @type {string[]} */
  const outputs = [];
  for (const field of fields(bytes)) {
    if (field.number === 1) nodes.push(readNode(asBytes(field)));
    else if (field.number === 5) {
      const { name, ...tensor } = readTensor(asBytes(field));
      constants.set(name, tensor);
    } else if (field.number === 11) inputs.push(readPort(asBytes(field)));
    else if (field.number === 12) outputs.push(readPort(asBytes(field)).name);
  }
  const open = inputs.filter((input) => !constants.has(input.name));
  if (open.length !== 1) throw new ModelError(`expected one input, for images; the file has ${open.length}`);
  if (!outputs.length) throw new ModelError("the file has no output");
  checkOrder(nodes, new Set([...constants.keys(), open[0].name]), outputs);
  return { nodes, constants, input: open[0], outputs };
}

/** @param {Node[]} nodes @param {Set<string>} known @param {string[]} outputs */
function checkOrder(nodes, known, outputs) {
  for (const node of nodes) {
    const missing = node.inputs.find((name) => name && !known.has(name));
    if (missing !== undefined) throw new ModelError(`the node '${node.name}' reads '${missing}', which nothing computes`);
    node.outputs.forEach((name) => known.add(name));
  }
  const missing = outputs.find((name) => !known.has(name));
  if (missing !== undefined) throw new ModelError(`nothing computes the output '${missing}'`);
}

/** @param {Uint8Array} bytes @returns {Node} */
function readNode(bytes) {
  /** @type {Node} */
  const node = { operator: "", name: "", inputs: [], outputs: [], attributes: {} };
  let domain = "";
  for (const field of fields(bytes)) {
    if (field.number === 1) node.inputs.push(asText(field));
    else if (field.number === 2) node.outputs.push(asText(field));
    else if (field.number === 3) node.name = asText(field);
    else if (field.number === 4) node.operator = asText(field);
    else if (field.number === 5) Object.assign(node.attributes, readAttribute(asBytes(field)));
    else if (field.number === 7) domain = asText(field);
  }
  node.name ||= node.outputs[0] ?? "";
  if (domain && domain !== "ai.onnx") node.operator = `${domain}.${node.operator}`;
  return node;
}

/** @param {Uint8Array} bytes @returns {Attributes} */
function readAttribute(bytes) {
  let name = "";
  /** @type {any} */
  let value = [];
  for (const field of fields(bytes)) {
    const { number } = field;
    if (number === 1) name = asText(field);
    else if (number === 2 || number === 3) value = field.value;
    else if (number === 4) value = asText(field);
    else if (number === 5) value = readTensor(asBytes(field));
    else if (number === 6) throw new ModelError("graphs with branches or loops are not supported");
    else if (number === 7 || number === 8) value.push(...asNumbers(field, number === 7));
  }
  return { [name]: value };
}

/** @param {Uint8Array} bytes @returns {Port} */
function readPort(bytes) {
  /** @type {Port} */
  const port = { name: "", type: "float32", shape: [] };
  for (const field of fields(bytes)) {
    if (field.number === 1) port.name = asText(field);
    if (field.number === 2) readType(asBytes(field), port);
  }
  return port;
}

/** @param {Uint8Array} bytes @param {Port} port */
function readType(bytes, port) {
  for (const outer of fields(bytes)) {
    if (outer.number !== 1) throw new ModelError(`the input or output '${port.name}' is not a tensor`);
    for (const field of fields(asBytes(outer))) {
      if (field.number === 1) port.type = typeOf(field.value);
      if (field.number !== 2) continue;
      for (const dimension of fields(asBytes(field))) port.shape.push(readDimension(asBytes(dimension)));
    }
  }
}

/** @param {Uint8Array} bytes @returns {number | string} */
function readDimension(bytes) {
  /** @type {number | string} */
  let side = "?";
  for (const field of fields(bytes)) side = field.number === 1 ? field.value : field.number === 2 ? asText(field) : side;
  return side;
}
