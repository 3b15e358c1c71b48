import { expect, test } from "bun:test";
import { JSON_DEPTH_MAX, parseJson } from "../../src/lib/json.ts";
import { Problem } from "../../src/lib/problem.ts";
import { COMBINING_MARKS_MAX } from "../../src/lib/text.ts";

function tryParse(text: string): unknown {
  try {
    return parseJson(text);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return { code: error.code, pointer: error.errors?.[0]?.pointer };
  }
}
const createMarks = (count: number) => `a${"\u0301\u0316".repeat(count / 2)}${count % 2 ? "\u0301" : ""}`;

test.each([
  ["a value", '{"a":"e\u0301"}', { a: "é" }],
  ["an escaped value", String.raw`{"a":"e\u0301"}`, { a: "é" }],
  ["a key", '{"e\u0301":{"o\u0308":1}}', { é: { ö: 1 } }],
  ["the items of a list", '["e\u0301",["e\u0301"]]', ["é", ["é"]]],
  ["a top-level string", '"e\u0301"', "é"],
  ["a combining mark after a line break, without joining them", `${String.raw`"\n`}\u0301"`, "\n\u0301"],
])("parseJson normalizes %s to NFC", (_, text, value) => {
  expect(parseJson(text)).toEqual(value);
});

test("parseJson doesn't normalize strings if `skipNormalization` is set", () => {
  expect(parseJson(String.raw`{"e\u0301":"e\u0301"}`, { skipNormalization: true })).toEqual({ "e\u0301": "e\u0301" });
});

test.each([
  ["NUL", String.raw`{"a":["\u0000"]}`, { code: "invalid", pointer: "#/a/0" }],
  ["a lone surrogate", String.raw`{"a/b":{"c":"\ud83d"}}`, { code: "invalid", pointer: "#/a~1b/c" }],
  ["a lone surrogate in a key", String.raw`{"a":{"\udc00":1}}`, { code: "invalid", pointer: "#/a" }],
  ["__proto__", '{"a":{"__proto__":{"b":1}}}', { code: "invalid", pointer: "#/a/__proto__" }],
  ["an escaped __proto__", String.raw`{"_\u005fproto__":1}`, { code: "invalid", pointer: "#/__proto__" }],
  ["a number above the range", '{"a":[0,{"b":1e999}]}', { code: "invalid", pointer: "#/a/1/b" }],
  ["a number below the range", "-1e999", { code: "invalid", pointer: "#" }],
  ["2^53+1, which would become 2^53", '{"a":{"b/c":[1,9007199254740993]}}', { code: "invalid", pointer: "#/a/b~1c/1" }],
  ["2^53 itself", "[9007199254740992]", { code: "invalid", pointer: "#/0" }],
  ["-2^53", "[-9007199254740992]", { code: "invalid", pointer: "#/0" }],
  ["2^53+1 as a fraction", "[9007199254740993.0]", { code: "invalid", pointer: "#/0" }],
  ["2^53+1 with an exponent", "[0.9007199254740993e16]", { code: "invalid", pointer: "#/0" }],
  ["a large integer", '{"a":123456789012345678901234567890}', { code: "invalid", pointer: "#/a" }],
  ["a large exponent", "[[1e300]]", { code: "invalid", pointer: "#/0/0" }],
  [
    "one combining mark too many",
    JSON.stringify([createMarks(COMBINING_MARKS_MAX + 1)]),
    { code: "invalid", pointer: "#/0" },
  ],
  ["one level too many", "[".repeat(JSON_DEPTH_MAX + 1) + "]".repeat(JSON_DEPTH_MAX + 1), { code: "malformed" }],
  ["NaN", "NaN", { code: "malformed" }],
  ["two documents", "{}{}", { code: "malformed" }],
])("parseJson rejects %s", (_, text, problem) => {
  expect(tryParse(text)).toEqual(problem as object);
});

test.each([
  ["the maximum number of combining marks", JSON.stringify(createMarks(COMBINING_MARKS_MAX))],
  ["the maximum depth", "[".repeat(JSON_DEPTH_MAX) + "]".repeat(JSON_DEPTH_MAX)],
  ["a key named constructor", '{"constructor":{"prototype":{"a":1}}}'],
  ["an escaped emoji", String.raw`"\ud83d\ude00"`],
  ["2^53-1", "[9007199254740991,-9007199254740991]"],
  ["fractions and small numbers", "[1.0000000000000000001,0.1,-0,5e-324,1e-400]"],
  ["a large integer as a string", '"9007199254740993"'],
])("parseJson accepts %s", (_, text) => {
  expect(() => parseJson(text)).not.toThrow();
});

test("the last of several equal keys wins, and no key changes the prototype", () => {
  expect(parseJson('{"a":1,"a":2}')).toEqual({ a: 2 });
  expect(parseJson(String.raw`{"constructor":{"prototype":{"polluted":1}},"\u0061":1}`)).toEqual({
    a: 1,
    constructor: { prototype: { polluted: 1 } },
  } as object);
  expect(({} as { polluted?: number }).polluted).toBeUndefined();
});

test("a megabyte of expensive JSON is parsed within five seconds", () => {
  const megabyte = 1_000_000;
  const expensiveTexts = [
    `"a${"\u0301\u0316".repeat(megabyte / 4)}"`,
    `"${createMarks(COMBINING_MARKS_MAX).repeat(megabyte / 2 / COMBINING_MARKS_MAX)}"`,
    `[${"1,".repeat(megabyte / 2)}1]`,
    `[${'{"a":[]},'.repeat(megabyte / 9)}1]`,
  ];
  for (const text of expensiveTexts) {
    const startedAtMs = performance.now();
    tryParse(text);
    expect(performance.now() - startedAtMs).toBeLessThan(5_000);
  }
});
