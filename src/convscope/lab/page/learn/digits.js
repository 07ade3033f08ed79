// The first nine of the built-in digits (UCI Optical Recognition of Handwritten Digits, CC BY 4.0): 8x8 pixels of 16 shades.
import { make, paint } from "../views/dom.js";

const DIGITS = [
  "005d910000dfaf5003f20b8004c008800580098004b01c7002e5ac00006da000",
  "000cd500000bf900003ff60007fff200001ff300001ff600001ff600000bfa00",
  "0004fc00003ffe00008d8f000016fb00018df10009ff500003dffb500003bf90",
  "007fd10008d6f400021dd000002fb1000001cc1000001a8000845e90007dd900",
  "0001b00000078000001d6220007f098005fa0f6004ffdf100003fa000002f400",
  "00ca000000effe0000dffa1000bff70000047f7000004f900054cf40009ffa00",
  "000cd000005f800000df300000ed000000fc720000dfdf30007fbf800019fb30",
  "0078dff100774bc000008d100488ff6002bff400000f5000009f100000d50000",
  "009e810000ceec00009a0f40003fce20004ff20003f8ad2001f13f8000bffb10",
];

/** A canvas with a digit, 0 to 8. @param {string} pixels */
function drawDigit(pixels) {
  const canvas = make("canvas");
  paint(canvas, { height: 8, width: 8, channels: 1, data: Uint8Array.from(pixels, (shade) => 17 * parseInt(shade, 16)) });
  return canvas;
}

export const drawDigits = () => DIGITS.map(drawDigit);
