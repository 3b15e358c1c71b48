import { randomBytes } from "node:crypto";

const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BASE = ALPHABET.length;
/** Random bytes from this value on are discarded, because they would make the first characters more likely than others. */
const UNBIASED_BYTE_LIMIT = 256 - (256 % BASE);

/** Encodes an integer of up to 2^53 in base62, padded on the left with `0`. */
export function encodeBase62(value: number, digits: number): string {
  let text = "";
  for (let remaining = value; remaining > 0; remaining = Math.floor(remaining / BASE))
    text = ALPHABET.charAt(remaining % BASE) + text;
  return text.padStart(digits, "0");
}

/** Creates a string of `length` random characters. All 62 are equally likely, so each contains 5.95 bits of randomness. */
export function createRandomBase62(length: number): string {
  let text = "";
  while (text.length < length)
    for (const byte of randomBytes(length)) {
      if (byte < UNBIASED_BYTE_LIMIT && text.length < length) text += ALPHABET.charAt(byte % BASE);
    }
  return text;
}
