import { expect, test } from "bun:test";
import { formatCanonicalJson } from "../../src/lib/canonical-json.ts";

test("the order of keys does not matter, at any depth; the order of lists does", () => {
  const one = formatCanonicalJson({ b: [{ y: 1, x: null }], a: "t", 1: true });
  expect(one).toBe(formatCanonicalJson({ 1: true, a: "t", b: [{ x: null, y: 1 }] }));
  expect(one).toBe('{"1":true,"a":"t","b":[{"x":null,"y":1}]}');
  expect(formatCanonicalJson([1, 2])).not.toBe(formatCanonicalJson([2, 1]));
});

test("what could be mistaken for each other is not", () => {
  const values = [null, {}, [], "", "null", 0, false, { a: null }, JSON.parse('{"__proto__":1}'), { a: [] }, { a: {} }];
  expect(new Set(values.map(formatCanonicalJson)).size).toBe(values.length);
  expect(formatCanonicalJson(undefined)).toBe("null");
});
