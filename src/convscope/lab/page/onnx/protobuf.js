// Protocol buffers, as far as model files need them: https://protobuf.dev/programming-guides/encoding/

/** A model file that cannot be read; the message says what was expected. */
export class ModelError extends Error {}

const text = new TextDecoder("utf-8", { fatal: true });

/** @typedef {{number: number, wire: number, value: number, bytes: Uint8Array}} Field */

/** @param {Uint8Array} bytes @param {number} start @returns {[number, number]} the value, and the position after it */
function readVarint(bytes, start) {
  let value = 0;
  let factor = 1;
  for (let position = start; position < start + 10; position++) {
    const byte = bytes[position];
    if (byte === undefined) break;
    value += (byte & 127) * factor;
    factor *= 128;
    if (byte < 128) return position - start < 7 ? [value, position + 1] : [readLong(bytes, start), position + 1];
  }
  throw new ModelError("the file is damaged or truncated: a number has no end");
}

/** @param {Uint8Array} bytes @param {number} start of a number of 8 to 10 bytes: signed 64 bits */
function readLong(bytes, start) {
  let value = 0n;
  for (let i = 0; i < 10; i++) {
    value |= BigInt(bytes[start + i] & 127) << BigInt(7 * i);
    if (bytes[start + i] < 128) break;
  }
  return Number(BigInt.asIntN(64, value));
}

/**
 * The fields of a message.
 * @param {Uint8Array} bytes
 * @returns {Generator<Field>}
 */
export function* fields(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let position = 0;
  while (position < bytes.length) {
    let key, value = 0;
    [key, position] = readVarint(bytes, position);
    const wire = key % 8;
    let length = wire === 1 ? 8 : wire === 5 ? 4 : 0;
    if (wire === 0) [value, position] = readVarint(bytes, position);
    else if (wire === 2) [length, position] = readVarint(bytes, position);
    else if (!length) throw new ModelError(`the file is damaged, or no ONNX file: wire type ${wire}`);
    if (length < 0 || position + length > bytes.length) throw new ModelError("the file is damaged or truncated");
    if (wire === 5) value = view.getFloat32(position, true);
    if (wire === 1) value = view.getFloat64(position, true);
    yield { number: Math.floor(key / 8), wire, value, bytes: bytes.subarray(position, position + length) };
    position += length;
  }
}

/** @param {Field} field @returns {string} */
export function asText(field) {
  try {
    return text.decode(asBytes(field));
  } catch {
    throw new ModelError("the file is damaged: a name is not UTF-8");
  }
}

/** @param {Field} field */
export function asBytes(field) {
  if (field.wire !== 2) throw new ModelError("the file is damaged: expected text or data, got a number");
  return field.bytes;
}

/**
 * A number, or the numbers of a packed field.
 * @param {Field} field
 * @param {boolean} [floats] whether packed numbers are float32, not varints
 * @returns {number[]}
 */
export function asNumbers(field, floats = false) {
  if (field.wire !== 2) return [field.value];
  const { bytes } = field;
  const found = [];
  if (floats) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let i = 0; i + 4 <= bytes.length; i += 4) found.push(view.getFloat32(i, true));
    return found;
  }
  let value, position = 0;
  while (position < bytes.length) {
    [value, position] = readVarint(bytes, position);
    found.push(value);
  }
  return found;
}
