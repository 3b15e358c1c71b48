import { expect, test } from "bun:test";
import { createSeal, deriveKey } from "../../src/lib/seal.ts";

const seal = createSeal(deriveKey("a secret of the server", "test"));
const context = Buffer.from("row 1");
const plain = Buffer.from("pk_a secret");

test("opens only with the same key and the same context", () => {
  const sealed = seal.seal(plain, context);
  expect(seal.open(sealed, context)).toEqual(plain);
  expect(seal.open(sealed, Buffer.from("row 2"))).toBeNull();
  expect(createSeal(deriveKey("another secret", "test")).open(sealed, context)).toBeNull();
  expect(createSeal(deriveKey("a secret of the server", "other")).open(sealed, context)).toBeNull();
});

test("detects any changed byte, and any truncation", () => {
  const sealed = seal.seal(plain, context);
  for (let index = 0; index < sealed.length; index += 1) {
    const changed = Buffer.from(sealed);
    changed[index] = (changed[index] ?? 0) ^ 1;
    expect(seal.open(changed, context)).toBeNull();
    expect(seal.open(sealed.subarray(0, index), context)).toBeNull();
  }
});

test("reveals no plain text, and never repeats a ciphertext", () => {
  const sealed = seal.seal(plain, context);
  expect(sealed.includes("secret")).toBe(false);
  expect(seal.seal(plain, context).equals(sealed)).toBe(false);
  expect(seal.open(seal.seal(new Uint8Array(), context), context)).toEqual(Buffer.alloc(0));
});

test("derives a separate 256-bit key for each purpose", () => {
  expect(deriveKey("s", "a")).toHaveLength(32);
  expect(deriveKey("s", "a")).toEqual(deriveKey("s", "a"));
  expect(deriveKey("s", "a")).not.toEqual(deriveKey("s", "b"));
});
