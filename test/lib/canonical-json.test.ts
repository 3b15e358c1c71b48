import { expect, test } from "bun:test";
import { formatCanonicalJson } from "../../src/lib/canonical-json.ts";

test("canonical JSON is independent of the order of keys at any depth, but not of the order of list items", () => {
  const json = formatCanonicalJson({ b: [{ y: 1, x: null }], a: "t", 1: true });
  expect(json).toBe(formatCanonicalJson({ 1: true, a: "t", b: [{ x: null, y: 1 }] }));
  expect(json).toBe('{"1":true,"a":"t","b":[{"x":null,"y":1}]}');
  expect(formatCanonicalJson([1, 2])).not.toBe(formatCanonicalJson([2, 1]));
});

test("canonical JSON distinguishes similar values", () => {
  const values = [null, {}, [], "", "null", 0, false, { a: null }, JSON.parse('{"__proto__":1}'), { a: [] }, { a: {} }];
  expect(new Set(values.map(formatCanonicalJson)).size).toBe(values.length);
  expect(formatCanonicalJson(undefined)).toBe("null");
});
