// Digits drawn for this page: 8x8 pixels of 16 shades.
import { make, paint } from "../views/dom.js";

const DIGITS = [
  "0006600000cccc0006c00c600a7007900a70079006c00c6000cccc0000077000",
  "00024000005fc0000048c0000005c0000005c0000005c0000005c00000000000",
  "0017710001ebbe1005900b7000001d500002d900003e800003fd882003988820",
  "0027600002facc0000100f200008ce000008af2000000c5001d8ae1000497100",
  "000010000001e200000c8000007c880003facc400398db300000c50000002100",
  "0036660000cca90000e8300000fdeb0000300d6000000b7000cace1000376000",
  "000011000001d800002da00000bffa0003f21d7005d00a8000dcae2000067200",
  "0055564000cbbea000000e4000078f000019eb000001f1000007a00000012000",
  "0005500000bddb0000f11e1000cddc0003f77f3007a00a7003f77f30003aa300",
];

/** A canvas with a digit, 0 to 8. @param {string} pixels */
function drawDigit(pixels) {
  const canvas = make("canvas");
  paint(canvas, { height: 8, width: 8, channels: 1, data: Uint8Array.from(pixels, (shade) => 17 * parseInt(shade, 16)) });
  return canvas;
}

export const drawDigits = () => DIGITS.map(drawDigit);
