import { describe, expect, test } from "bun:test";
import { IDEMPOTENCY_KEY_CHARS_MAX, parseIdempotencyKey } from "../../src/http/idempotency-key.ts";

const longestKey = "k".repeat(IDEMPOTENCY_KEY_CHARS_MAX);

describe("an Idempotency-Key", () => {
  test.each([
    ["unquoted", "8e03978e-40d5", "8e03978e-40d5"],
    ["quoted", '"8e03978e-40d5"', "8e03978e-40d5"],
    ["one character long", "1", "1"],
    ["composed of every allowed character", "!#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "!#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"],
    ["quoted, with escapes", String.raw`"a\"b\\c"`, String.raw`a"b\c`],
    ["as long as the maximum", longestKey, longestKey],
    ["quoted and as long as the maximum", `"${longestKey}"`, longestKey],
  ])("can be %s", (_, header, key) => expect(parseIdempotencyKey(header)).toBe(key));

  test.each([
    ["is empty", ""],
    ["is an empty quoted string", '""'],
    ["is too long", `${longestKey}k`],
    ["is quoted and too long", `"${longestKey}k"`],
    ["is a list of keys", "a, b"],
    ["contains a space", "a b"],
    ["is quoted and contains a space", '"a b"'],
    ["starts with an unclosed quote", '"a'],
    ["contains a quote", 'a"b'],
    ["is quoted and contains an unescaped quote", '"a"b"'],
    ["contains an invalid escape", String.raw`"a\b"`],
    ["ends with an escaped quote", String.raw`"a\"`],
    ["has parameters", '"a";p=1'],
    ["contains non-ASCII text", "schlüssel"],
    ["contains a control character", "a\u0001"],
    ["contains a tab", "a\tb"],
    ["contains a DEL character", "a\u007f"],
  ])("is rejected if it %s", (_, header) =>
    expect(() => parseIdempotencyKey(header)).toThrow(expect.objectContaining({ code: "malformed" })),
  );
});
