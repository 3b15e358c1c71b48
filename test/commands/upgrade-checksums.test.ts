import { expect, test } from "bun:test";
import { findChecksum } from "../../src/commands/upgrade/checksum.ts";

const checksum = "a".repeat(64);
const otherChecksum = "b".repeat(64);

test.each([
  [`${checksum}  parley`, checksum],
  [`${checksum} *parley`, checksum],
  [`${checksum}  dist/release/parley\r\n`, checksum],
  [`SHA256 (parley) = ${checksum.toUpperCase()}`, checksum],
  [`${otherChecksum}  parley-arm\n${checksum}  parley\n`, checksum],
  [`${checksum}  parley.exe`, null],
  [`${checksum}`, null],
  [`${checksum}x  parley`, null],
  [`${"a".repeat(63)}  parley`, null],
  ["<!doctype html><title>Not found</title>", null],
  ["", null],
])("in %j, the checksum of `parley` is %p", (text, expected) => {
  expect(findChecksum(text, "parley")).toBe(expected);
});

test("a file with a single checksum applies to any executable name, but a list of checksums doesn't", () => {
  expect(findChecksum(`${checksum}\n`, "parley", { isOwnList: true })).toBe(checksum);
  expect(findChecksum(`${checksum}  parley-0.2.0-linux-x64\n`, "parley", { isOwnList: true })).toBe(checksum);
  expect(findChecksum(`${checksum}  a\n${otherChecksum}  b\n`, "parley", { isOwnList: true })).toBeNull();
  expect(findChecksum(`${checksum}  a\n${otherChecksum}  parley\n`, "parley", { isOwnList: true })).toBe(otherChecksum);
});
