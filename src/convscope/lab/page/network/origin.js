// Flatten: which cell of the maps each entry of the list came from (article, A7).

/** @typedef {{value: string, shape: number[], rowsFirst: boolean}} Origin value of maps (channels, height, width); rowsFirst:
 *   whether the list runs row, column, channel, instead of channel, row, column */

const PASSED = new Set(["Cast", "DequantizeLinear", "Dropout", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Squeeze", "Transpose"]);

/**
 * The maps that a list was made of.
 * @param {import("../ops/execute.js").Plan} plan
 * @param {Map<string, import("../onnx/tensor.js").Tensor>} values
 * @param {string} name of the list, or of a value that was made of it
 * @returns {Origin | undefined}
 */
export function findOrigin(plan, values, name) {
  let rowsFirst = false;
  for (let at = name; ; ) {
    const node = plan.nodes.find((one) => one.outputs[0] === at);
    const shape = values.get(at)?.shape ?? [];
    if (shape.length === 4 && node && !PASSED.has(node.operator)) return { value: at, shape: shape.slice(1), rowsFirst };
    if (!node || !PASSED.has(node.operator)) return undefined;
    if (node.operator === "Transpose") {
      if (String(node.attributes.perm) !== "0,2,3,1") return undefined;
      rowsFirst = true;
    }
    [at] = node.inputs;
  }
}

/** The cell (channel, row, column) of an entry. @param {Origin} origin @param {number} entry */
export function originOf({ shape: [channels, height, width], rowsFirst }, entry) {
  if (rowsFirst) return [entry % channels, Math.floor(entry / channels / width), Math.floor(entry / channels) % width];
  return [Math.floor(entry / (height * width)), Math.floor(entry / width) % height, entry % width];
}

/** The entry of a cell. @param {Origin} origin @param {number[]} cell (channel, row, column) */
export function entryOf({ shape: [channels, height, width], rowsFirst }, [channel, row = 0, column = 0]) {
  return rowsFirst ? (row * width + column) * channels + channel : (channel * height + row) * width + column;
}
