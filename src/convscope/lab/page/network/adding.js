// Rounds the terms of a sum for reading, so that the printed terms add up to the printed value.

const DIGITS = 6; // of the largest number
const MORE = 6; // decimals that terms may have in addition

/** A number with a fixed number of decimals, without zeros at the end. @param {number} value @param {number} decimals */
export function fixed(value, decimals) {
  const text = value.toFixed(decimals);
  return (decimals ? text.replace(/\.?0+$/, "") : text).replace(/^-(?=0$)/, "").replace("-", "\u2212");
}

/**
 * @param {number[]} terms
 * @param {number} value their sum, divided by `count`, as it was computed in float32
 * @param {number} [count]
 * @returns {{decimals: number, value: string}} decimals with which each term is printed, and the value to print: rounding the
 *   sum of the printed terms gives it
 */
export function addUp(terms, value, count = 1) {
  const largest = terms.reduce((most, term) => Math.max(most, Math.abs(term)), Math.abs(value)) || 1;
  const most = Math.min(Math.max(DIGITS - 1 - Math.floor(Math.log10(largest)), 0), 20);
  for (let places = most; places >= 0; places--) {
    const rounded = Number(value.toFixed(places));
    for (let decimals = places; decimals <= places + MORE; decimals++) {
      const off = Math.abs(total(terms, decimals) / count - rounded);
      if (off < 0.499 / 10 ** places) return { decimals, value: fixed(value, places) };
    }
  }
  return { decimals: most, value: fixed(value, most) };
}

/** The sum of the printed terms. @param {number[]} terms @param {number} decimals */
export const total = (terms, decimals) => terms.reduce((sum, term) => sum + Number(term.toFixed(decimals)), 0);
