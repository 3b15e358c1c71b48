import { expect, test } from "bun:test";
import { readChecksum } from "../../src/commands/upgrade/checksum.ts";

const one = "a".repeat(64);
const two = "b".repeat(64);

test.each([
  [`${one}  parley`, one],
  [`${one} *parley`, one],
  [`${one}  dist/release/parley\r\n`, one],
  [`SHA256 (parley) = ${one.toUpperCase()}`, one],
  [`${two}  parley-arm\n${one}  parley\n`, one],
  [`${one}  parley.exe`, null],
  [`${one}`, null],
  [`${one}x  parley`, null],
  [`${"a".repeat(63)}  parley`, null],
  ["<!doctype html><title>Not found</title>", null],
  ["", null],
])("in the list %j the checksum of `parley` is %p", (text, expected) => {
  expect(readChecksum(text, "parley")).toBe(expected);
});

test("a list with one entry matches any name, a longer one doesn't", () => {
  expect(readChecksum(`${one}\n`, "parley", { isAlone: true })).toBe(one);
  expect(readChecksum(`${one}  parley-0.2.0-linux-x64\n`, "parley", { isAlone: true })).toBe(one);
  expect(readChecksum(`${one}  a\n${two}  b\n`, "parley", { isAlone: true })).toBeNull();
  expect(readChecksum(`${one}  a\n${two}  parley\n`, "parley", { isAlone: true })).toBe(two);
});
