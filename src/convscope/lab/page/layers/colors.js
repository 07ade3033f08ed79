// Colors of values: from dark to light for values of one sign, blue and orange for both.

const SEQUENCE = [[10, 12, 40], [66, 22, 104], [140, 41, 99], [214, 72, 66], [250, 149, 40], [252, 243, 180]]; // prettier-ignore
const DIVERGING = [[20, 80, 190], [110, 165, 235], [50, 53, 60], [245, 160, 70], [255, 225, 150]]; // prettier-ignore

/** 256 colors as the bytes of ImageData. @param {number[][]} stops @returns {Uint32Array} */
function ramp(stops) {
  return Uint32Array.from({ length: 256 }, (_, i) => {
    const place = (i / 255) * (stops.length - 1);
    const at = Math.min(Math.floor(place), stops.length - 2);
    const [r, g, b] = stops[at].map((value, c) => Math.round(value + (stops[at + 1][c] - value) * (place - at)));
    return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
  });
}

const RAMPS = { one: ramp(SEQUENCE), both: ramp(DIVERGING) };

/** @typedef {{colors: Uint32Array, low: number, high: number}} Scale */

/**
 * How the values of a layer become colors.
 * @param {Float32Array} values
 * @param {Float32Array | null} [others] that share the colors
 * @returns {Scale}
 */
export function colorScale(values, others) {
  let low = 0, high = 0;
  for (const list of others ? [values, others] : [values]) {
    for (let i = 0; i < list.length; i++) {
      const value = list[i];
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  if (low < 0 && high > 0) {
    const most = Math.max(-low, high);
    return { colors: RAMPS.both, low: -most, high: most };
  }
  return { colors: RAMPS.one, low, high: high === low ? low + 1 : high };
}
