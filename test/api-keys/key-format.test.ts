import { expect, test } from "bun:test";
import fc from "fast-check";
import type { Database } from "../../src/db/client.ts";
import { createRandomBase62, encodeBase62 } from "../../src/lib/base62.ts";
import { createKeyAuthenticator } from "../../src/modules/api-keys/callers.ts";
import { createChecksum, createKey, extractVisibleParts, isKey } from "../../src/modules/api-keys/key-format.ts";
import { createAuditService } from "../../src/modules/audit/service.ts";
import { silentLog } from "../support/log.ts";
import { scaleRuns } from "../support/property-tests.ts";
import { unknownOrigin } from "../support/request-origin.ts";

const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const arbitraryText = fc
  .array(fc.constantFrom(...ALPHABET), { minLength: 30, maxLength: 30 })
  .map((characters) => characters.join(""));

/** Calculates the checksum independently: IEEE 802.3 CRC-32 bit by bit, then base62 with big integers. */
function calculateChecksumBitByBit(text: string): string {
  let crc = 0xffffffff;
  for (const byte of Buffer.from(text, "ascii")) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  let remainder = BigInt((crc ^ 0xffffffff) >>> 0);
  let digits = "";
  for (let digit = 0; digit < 6; digit += 1) {
    digits = ALPHABET.charAt(Number(remainder % 62n)) + digits;
    remainder /= 62n;
  }
  return digits;
}

test("the checksum matches the published test vector", () => {
  expect(createChecksum("zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ")).toBe("0mLq17");
  expect(isKey("pk_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17")).toBe(true);
});

test("any 30 characters followed by their six-character checksum form a valid key", () => {
  fc.assert(
    fc.property(arbitraryText, (text) => {
      const checksum = createChecksum(text);
      return (
        checksum === calculateChecksumBitByBit(text) &&
        /^[0-9A-Za-z]{6}$/.test(checksum) &&
        isKey(`pk_${text}${checksum}`)
      );
    }),
    { numRuns: scaleRuns(2_000) },
  );
});

test("a key with one wrong character or two swapped characters is invalid", () => {
  const change = fc.record({ index: fc.nat(35), character: fc.constantFrom(...ALPHABET) });
  fc.assert(
    fc.property(arbitraryText, change, fc.nat(34), (text, { index, character }, swapIndex) => {
      const body = text + createChecksum(text);
      const changedBody = body.slice(0, index) + character + body.slice(index + 1);
      const swappedBody =
        body.slice(0, swapIndex) + body.charAt(swapIndex + 1) + body.charAt(swapIndex) + body.slice(swapIndex + 2);
      return [changedBody, swappedBody].every((newBody) => isKey(`pk_${newBody}`) === (newBody === body));
    }),
    { numRuns: scaleRuns(2_000) },
  );
});

test("any other string is invalid", () => {
  fc.assert(fc.property(fc.string(), (text) => !isKey(text) && !isKey(`pk_${text}`)));
  const key = createKey();
  for (const invalidKey of [
    "",
    "pk_",
    key.slice(3),
    ` ${key}`,
    `${key}\n`,
    key.toUpperCase(),
    key.replace("pk", "sk"),
    key + key,
  ])
    expect(isKey(invalidKey)).toBe(false);
});

test("new keys are valid and unique, with evenly distributed characters", () => {
  const keys = Array.from({ length: 2_000 }, createKey);
  expect(new Set(keys).size).toBe(2_000);
  for (const key of keys) expect(isKey(key)).toBe(true);
  const counts = new Map<string, number>();
  const characters = createRandomBase62(62_000);
  for (const character of characters) counts.set(character, (counts.get(character) ?? 0) + 1);
  expect(counts.size).toBe(62);
  // Each character is expected 1,000 times, with a standard deviation of 31. The tolerance of seven standard deviations
  // is exceeded about once in 10^11 cases.
  for (const count of counts.values()) expect(Math.abs(count - 1_000)).toBeLessThan(220);
});

test("base62 is padded on the left, and both ends of a key can be extracted", () => {
  expect([0, 61, 62, 2 ** 32 - 1].map((value) => encodeBase62(value, 6))).toEqual([
    "000000",
    "00000z",
    "000010",
    "4gfFC3",
  ]);
  expect(extractVisibleParts("pk_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17")).toEqual({
    prefix: "pk_zQWB",
    lastFour: "Lq17",
  });
});

test("a wrong format or checksum is rejected without a database query", async () => {
  let queries = 0;
  const database = (() => {
    queries += 1;
    return Promise.resolve([]);
  }) as unknown as Database;
  const callers = createKeyAuthenticator({ database, audit: createAuditService(), log: silentLog });
  const key = createKey();
  const differentLastCharacter = key.endsWith("a") ? "b" : "a";
  for (const invalidKey of [
    key.slice(0, -1) + differentLastCharacter,
    "pk_",
    "pk_short",
    `${key}0`,
    key.replace("_", "-"),
  ])
    expect(await callers.findCaller(invalidKey, unknownOrigin)).toBeNull();
  expect(queries).toBe(0);
  // A key with the correct checksum is looked up but not found.
  expect(await callers.findCaller(key, unknownOrigin)).toBeNull();
  expect(queries).toBeGreaterThan(0);
});
