import { expect, test } from "bun:test";
import { formatCanonicalJson } from "../../src/lib/canonical-json.ts";

test("ignores the order of keys at any depth, but not the order of lists", () => {
  const one = formatCanonicalJson({ b: [{ y: 1, x: null }], a: "t", 1: true });
  expect(one).toBe(formatCanonicalJson({ 1: true, a: "t", b: [{ x: null, y: 1 }] }));
  expect(one).toBe('{"1":true,"a":"t","b":[{"x":null,"y":1}]}');
  expect(formatCanonicalJson([1, 2])).not.toBe(formatCanonicalJson([2, 1]));
});

test("distinguishes similar values", () => {
  const values = [null, {}, [], "", "null", 0, false, { a: null }, JSON.parse('{"__proto__":1}'), { a: [] }, { a: {} }];
  expect(new Set(values.map(formatCanonicalJson)).size).toBe(values.length);
  expect(formatCanonicalJson(undefined)).toBe("null");
});
