import { expect, test } from "bun:test";
import { createSeal, deriveKey } from "../../src/lib/seal.ts";

const seal = createSeal(deriveKey("the server's secret", "test"));
const context = Buffer.from("row 1");
const plaintext = Buffer.from("pk_a secret");

test("a sealed value can be opened only with the same key and context", () => {
  const sealedValue = seal.seal(plaintext, context);
  expect(seal.open(sealedValue, context)).toEqual(plaintext);
  expect(seal.open(sealedValue, Buffer.from("row 2"))).toBeNull();
  expect(createSeal(deriveKey("a different secret", "test")).open(sealedValue, context)).toBeNull();
  expect(createSeal(deriveKey("the server's secret", "other")).open(sealedValue, context)).toBeNull();
});

test("every changed byte and every truncation is detected", () => {
  const sealedValue = seal.seal(plaintext, context);
  for (let index = 0; index < sealedValue.length; index += 1) {
    const changedBytes = Buffer.from(sealedValue);
    changedBytes[index] = (changedBytes[index] ?? 0) ^ 1;
    expect(seal.open(changedBytes, context)).toBeNull();
    expect(seal.open(sealedValue.subarray(0, index), context)).toBeNull();
  }
});

test("the ciphertext doesn't reveal the plaintext, and is never the same twice", () => {
  const sealedValue = seal.seal(plaintext, context);
  expect(sealedValue.includes("secret")).toBe(false);
  expect(seal.seal(plaintext, context).equals(sealedValue)).toBe(false);
  expect(seal.open(seal.seal(new Uint8Array(), context), context)).toEqual(Buffer.alloc(0));
});

test("a separate 256-bit key is derived for each purpose", () => {
  expect(deriveKey("s", "a")).toHaveLength(32);
  expect(deriveKey("s", "a")).toEqual(deriveKey("s", "a"));
  expect(deriveKey("s", "a")).not.toEqual(deriveKey("s", "b"));
});
