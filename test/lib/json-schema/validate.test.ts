import { describe, expect, test } from "bun:test";
import { compileLinearPattern, estimatePatternSize } from "../../../src/lib/json-schema/linear-pattern.ts";
import {
  InvalidSchemaError,
  PATTERN_INSTRUCTIONS_MAX,
  prepareSchema,
  SCHEMA_CHARS_MAX,
  SCHEMAS_PER_VALUE_MAX,
} from "../../../src/lib/json-schema/prepare-schema.ts";
import { STEPS_MAX, validate } from "../../../src/lib/json-schema/validate.ts";

const validateValue = (schema: object, value: unknown) => validate(JSON.stringify(value), value, prepareSchema(schema));
const isValid = (schema: object, value: unknown) => validateValue(schema, value).type === "valid";

function getSchemaError(schema: object): { pointer: string; message: string } {
  try {
    prepareSchema(schema);
  } catch (error) {
    if (error instanceof InvalidSchemaError) return { pointer: error.pointer, message: error.message };
    throw error;
  }
  throw new Error("The schema was accepted.");
}

const treeSchema = {
  $ref: "#/$defs/node",
  $defs: {
    node: {
      type: "object",
      properties: { name: { type: "string" }, children: { type: "array", items: { $ref: "#/$defs/node" } } },
      required: ["name"],
      additionalProperties: false,
    },
  },
};

describe("validation", () => {
  const keywordCases: [string, object, unknown, unknown][] = [
    ["types", { type: "integer" }, 5, 5.5],
    ["several types", { type: ["string", "null"] }, null, 1],
    ["required fields", { required: ["a"] }, { a: 1 }, {}],
    ["required fields with names of methods", { required: ["toString"] }, { toString: 1 }, {}],
    ["additional fields", { properties: { a: {} }, additionalProperties: false }, { a: 1 }, { b: 1 }],
    ["enum", { enum: ["a", { b: 1 }] }, { b: 1 }, { b: 2 }],
    ["const", { const: null }, null, 0],
    ["anyOf", { anyOf: [{ type: "string" }, { minimum: 5 }] }, 6, 4],
    ["oneOf", { oneOf: [{ multipleOf: 2 }, { multipleOf: 3 }] }, 4, 6],
    ["not", { not: { type: "string" } }, 1, "a"],
    ["if and else", { if: { minimum: 10 }, else: { multipleOf: 5 } }, 5, 6],
    ["prefixItems", { prefixItems: [{ type: "string" }], items: { type: "number" } }, ["a", 1], ["a", "b"]],
    [
      "tuples in older drafts",
      { $schema: "http://json-schema.org/draft-07/schema#", items: [{ type: "string" }], additionalItems: false },
      ["a"],
      ["a", 1],
    ],
    [
      "uniqueItems",
      { uniqueItems: true },
      [{ a: 1, b: 2 }, 1],
      [
        { a: 1, b: 2 },
        { b: 2, a: 1 },
      ],
    ],
    ["pattern", { pattern: "^\\d{3}-[\\u0041-Z]+$" }, "123-AZ", "12-AZ"],
    ["patternProperties", { patternProperties: { "^n_": { type: "number" } } }, { n_a: 1, b: "" }, { n_a: "" }],
    ["dependencies", { dependencies: { a: ["b"] } }, { a: 1, b: 1 }, { a: 1 }],
    ["unevaluatedProperties", { allOf: [{ properties: { a: {} } }], unevaluatedProperties: false }, { a: 1 }, { b: 1 }],
    ["formats", { format: "date-time" }, "2026-11-30T01:00:00Z", "tomorrow"],
    ["recursive references", treeSchema, { name: "a", children: [{ name: "b" }] }, { name: "a", children: [{}] }],
    ["references by an anchor", { $ref: "#x", $defs: { a: { $anchor: "x", type: "string" } } }, "a", 1],
    [
      "references to other parts of the schema",
      { $ref: "#/components/a~1b", components: { "a/b": { type: "null" } } },
      null,
      1,
    ],
  ];
  test.each(keywordCases)("supports %s", (_name, schema, validValue, invalidValue) => {
    expect(isValid(schema, validValue)).toBe(true);
    expect(isValid(schema, invalidValue)).toBe(false);
  });

  test("ignores unknown keywords", () => {
    expect(isValid({ "x-ours": { type: "string" }, $comment: "no", format: "no-such-format", default: 5 }, 1)).toBe(
      true,
    );
  });

  test("reports problems with a pointer", () => {
    const schema = { properties: { a: { items: { type: "string" } } } };
    expect(validateValue(schema, { a: ["x", 5] })).toEqual({
      type: "invalid",
      problems: ['#/a/1: Instance type "number" is invalid. Expected "string".'],
    });
  });
});

describe("a schema", () => {
  const invalidSchemas: [string, object, string, string][] = [
    ["an unknown type", { properties: { a: { type: "text" } } }, "#/properties/a/type", "must be one of"],
    ["a value that is not a schema", { items: 5 }, "#/items", "must be a schema"],
    ["an empty anyOf", { anyOf: [] }, "#/anyOf", "at least one"],
    [
      "an invalid pattern",
      { properties: { "a/b": { pattern: "[" } } },
      "#/properties/a~1b/pattern",
      "regular expression",
    ],
    [
      "`patternProperties` with an invalid pattern",
      { patternProperties: { "(": {} } },
      "#/patternProperties",
      "regular expressions",
    ],
    ["a negative length", { minLength: -1 }, "#/minLength", "0 or more"],
    ["an external reference", { $ref: "http://169.254.169.254/schema" }, "#/$ref", "external schemas are not fetched"],
    ["a missing reference", { $ref: "#/$defs/none" }, "#/$ref", "doesn't exist"],
    ["a dynamic reference", { $dynamicRef: "#node" }, "#/$dynamicRef", "isn't supported"],
    ["its root if it references itself", { $ref: "#" }, "#", "endlessly"],
    [
      "a reference cycle",
      { $ref: "#/$defs/a", $defs: { a: { anyOf: [{ type: "null" }, { $ref: "#/$defs/a" }] } } },
      "#/$defs/a",
      "endlessly",
    ],
    ["its root if it is too long", { description: "x".repeat(SCHEMA_CHARS_MAX) }, "#", `at most ${SCHEMA_CHARS_MAX}`],
  ];
  test.each(invalidSchemas)("is rejected with a pointer to %s", (_name, schema, pointer, message) => {
    const error = getSchemaError(schema);
    expect(error.pointer).toBe(pointer);
    expect(error.message).toContain(message);
  });

  test("is rejected if its references branch at each level", () => {
    const levels = 40;
    const defs = Object.fromEntries(
      Array.from({ length: levels }, (_, level) => {
        const next = { $ref: `#/$defs/d${level + 1}` };
        return [`d${level}`, { allOf: [next, next] }];
      }),
    );
    const error = getSchemaError({ $ref: "#/$defs/d0", $defs: { ...defs, [`d${levels}`]: { type: "number" } } });
    expect(error.message).toContain(`more than ${SCHEMAS_PER_VALUE_MAX} schemas`);
  });

  test("is rejected if it has too many patterns, or patterns with large repetitions", () => {
    const patterns = Array.from({ length: 1_000 }, (_, index) => ({ pattern: `a{100}${index}` }));
    expect(getSchemaError({ anyOf: patterns }).message).toContain("total size");
    const nestedPatterns = Array.from({ length: 20 }, (_, index) => ({
      pattern: `(?:${"a{31}".repeat(20)}${index}){31}`,
    }));
    expect(getSchemaError({ anyOf: nestedPatterns }).message).toContain("total size");
    const largePatterns = [`(?:${"ab?".repeat(300)}){900}`, "(?:(?:(?:[a-z]\\d){20}){20}){20}"];
    for (const pattern of largePatterns) expect(getSchemaError({ pattern }).message).toContain("total size");
    expect(estimatePatternSize("(?:a[b\\]]{3,5}){2}")).toBeGreaterThanOrEqual(12);
    expect(PATTERN_INSTRUCTIONS_MAX).toBeLessThan(20 * 31 * 31 * 20);
  });
});

describe("validation time is limited:", () => {
  test("a pattern takes linear time", () => {
    const text = `${"a".repeat(50_000)}!`;
    expect(isValid({ pattern: "^(a+)+$" }, text)).toBe(false);
    // JavaScript's own engine would stop early and report no match.
    expect(isValid({ pattern: "^(?:(?:a+)+b|a+!)$" }, text)).toBe(true);
  });

  test("a pattern that a linear-time engine can't support isn't checked", () => {
    expect(isValid({ pattern: "^(?!x)a+$" }, "x")).toBe(true);
    expect(isValid({ pattern: "(?<q>['\"]).*\\k<q>" }, "x")).toBe(true);
  });

  test("a recursion that branches at each level is aborted", () => {
    const child = { properties: { c: { $ref: "#" } } };
    const schema = {
      anyOf: [
        { ...child, required: ["x"] },
        { ...child, required: ["y"] },
      ],
    };
    let value: unknown = {};
    for (let depth = 0; depth < 60; depth += 1) value = { c: value };
    expect(validateValue(schema, value)).toEqual({ type: "unknown" });
    // Aborting a validation doesn't affect the next validation.
    expect(isValid(treeSchema, { name: "a" })).toBe(true);
  });

  test("a large list with a large enum is aborted, but a large list of unique items isn't", () => {
    const items = { enum: Array.from({ length: 9_000 }, (_, index) => index) };
    expect(validateValue({ items }, new Array(STEPS_MAX).fill(8_999))).toEqual({ type: "unknown" });
    const uniqueItems = Array.from({ length: 20_000 }, (_, index) => index);
    expect(isValid({ uniqueItems: true }, uniqueItems)).toBe(true);
  });

  test("a long list of objects is validated", () => {
    const row = {
      type: "object",
      properties: { a: { type: "integer" } },
      required: ["a"],
      additionalProperties: false,
    };
    const rows = Array.from({ length: 20_000 }, (_, a) => ({ a }));
    expect(isValid({ type: "array", items: row }, rows)).toBe(true);
  });

  test("anchors are collected once, even if many references use them", () => {
    let anchorReads = 0;
    const anchored = {
      type: "string",
      get $anchor() {
        anchorReads += 1;
        return "place";
      },
    };
    const references = Array.from({ length: 500 }, (_, index) => [`p${index}`, { $ref: "#place" }]);
    const schema = { properties: Object.fromEntries(references), $defs: { anchored } };
    expect(isValid(schema, { p499: "" })).toBe(true);
    expect(isValid(schema, { p499: 1 })).toBe(false);
    expect(anchorReads).toBeLessThan(10);
  });

  test.each([
    ["many Unicode classes", "\\p{L}".repeat(21)],
    ["case-insensitive classes", "(?i:\\p{L})"],
  ])("%s aren't compiled, because compiling them would be slow", (_, pattern) => {
    expect(compileLinearPattern(pattern)).toBeNull();
    expect(isValid({ pattern }, "")).toBe(true);
  });

  test.each([
    "^\\p{L}[\\p{L}\\p{N}]{0,99}$",
    "^(?:\\d{1,3}\\.){3}\\d{1,3}$",
    "^[\\]{}()]{2}$",
    "(?:[a-z0-9]{1,60}\\.){1,10}",
  ])("%s is compiled", (pattern) => expect(compileLinearPattern(pattern)).not.toBeNull());
});
