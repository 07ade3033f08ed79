// Where a patch is put on an image for an occlusion map.

/**
 * @typedef {{size: number, rows: number[], columns: number[]}} Patches first rows and columns of the places
 */

const PATCHES_PER_SIDE = 7; // that would cover the shorter side without overlap

/** Patches of a seventh of the shorter side, half a patch apart. @param {number} height @param {number} width @returns {Patches} */
export function coverWithPatches(height, width) {
  const size = Math.ceil(Math.min(height, width) / PATCHES_PER_SIDE);
  const step = Math.max(1, Math.floor(size / 2));
  const [rows, columns] = [height, width].map((side) => [
    ...Array.from({ length: Math.ceil((side - size) / step) }, (_, i) => i * step), side - size,
  ]); // prettier-ignore
  return { size, rows, columns };
}

/** The mean over the patches that cover each pixel; NaN where none has been computed.
 * @param {number[]} drops of the first places @param {Patches} patches @param {number} height @param {number} width
 * @returns {import("./why.js").Heat} */
export function spreadDrops(drops, { size, rows, columns }, height, width) {
  const sums = new Float32Array(height * width), counts = new Float32Array(height * width);
  drops.forEach((drop, at) => {
    const first = rows[Math.floor(at / columns.length)] * width + columns[at % columns.length];
    for (let i = 0; i < size * size; i++) {
      const to = first + Math.floor(i / size) * width + (i % size);
      sums[to] += drop;
      counts[to]++;
    }
  });
  return { height, width, data: sums.map((sum, i) => sum / counts[i]) };
}
