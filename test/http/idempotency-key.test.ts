import { describe, expect, test } from "bun:test";
import { IDEMPOTENCY_KEY_CHARS_MAX, parseIdempotencyKey } from "../../src/http/idempotency-key.ts";

const longestKey = "k".repeat(IDEMPOTENCY_KEY_CHARS_MAX);

describe("an Idempotency-Key", () => {
  test.each([
    ["bare", "8e03978e-40d5", "8e03978e-40d5"],
    ["in quotes", '"8e03978e-40d5"', "8e03978e-40d5"],
    ["of one character", "1", "1"],
    ["of every allowed character", "!#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "!#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"],
    ["with escapes in quotes", String.raw`"a\"b\\c"`, String.raw`a"b\c`],
    ["of the maximum length", longestKey, longestKey],
    ["of the maximum length in quotes", `"${longestKey}"`, longestKey],
  ])("can be %s", (_, header, key) => expect(parseIdempotencyKey(header)).toBe(key));

  test.each([
    ["empty", ""],
    ["empty in quotes", '""'],
    ["a key that is too long", `${longestKey}k`],
    ["a key that is too long, in quotes", `"${longestKey}k"`],
    ["a list of keys", "a, b"],
    ["a space", "a b"],
    ["a space in quotes", '"a b"'],
    ["an unclosed quote", '"a'],
    ["a quote in the middle", 'a"b'],
    ["a quote inside quotes", '"a"b"'],
    ["an invalid escape", String.raw`"a\b"`],
    ["an escaped closing quote", String.raw`"a\"`],
    ["parameters", '"a";p=1'],
    ["non-ASCII text", "schlüssel"],
    ["a control character", "a\u0001"],
    ["a tab", "a\tb"],
    ["a DEL character", "a\u007f"],
  ])("can't be %s", (_, header) =>
    expect(() => parseIdempotencyKey(header)).toThrow(expect.objectContaining({ code: "malformed" })),
  );
});
