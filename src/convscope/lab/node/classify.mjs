// Classifies images in Node with the page's code: arguments are the page's folder and a model file; on standard input, a
// file in Base64 per line; on standard output, "opened", then for each line its probabilities, or the reason why there are none, as JSON.
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [folder, model] = process.argv.slice(2);
const load = (/** @type {string} */ path) => import(new URL(path, pathToFileURL(`${folder}/`)).href);
const { openModel } = await load("network/session.js");
const { decodeImage } = await load("images/decode.js");

const session = await openModel(new Uint8Array(await readFile(model)));
process.stdout.write("opened\n");
for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    const decoded = await decodeImage(new Uint8Array(Buffer.from(line, "base64")));
    answer = { probabilities: session.classify(decoded).probabilities };
  } catch (error) {
    answer = { error: error instanceof Error ? error.message : String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
