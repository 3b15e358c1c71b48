import { describe, expect, test } from "bun:test";
import { IDEMPOTENCY_KEY_CHARS_MAX, readIdempotencyKey } from "../../src/http/idempotency-key.ts";

const longest = "k".repeat(IDEMPOTENCY_KEY_CHARS_MAX);

describe("an Idempotency-Key", () => {
  test.each([
    ["bare", "8e03978e-40d5", "8e03978e-40d5"],
    ["in quotes", '"8e03978e-40d5"', "8e03978e-40d5"],
    ["of one character", "1", "1"],
    ["of every allowed character", "!#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "!#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"],
    ["with escapes in quotes", String.raw`"a\"b\\c"`, String.raw`a"b\c`],
    ["of the maximum length", longest, longest],
    ["of the maximum length in quotes", `"${longest}"`, longest],
  ])("may be %s", (_, header, key) => expect(readIdempotencyKey(header)).toBe(key));

  test.each([
    ["nothing", ""],
    ["nothing in quotes", '""'],
    ["a key that is too long", `${longest}k`],
    ["a key that is too long, in quotes", `"${longest}k"`],
    ["a list of keys", "a, b"],
    ["a space", "a b"],
    ["a space in quotes", '"a b"'],
    ["an open quote", '"a'],
    ["a quote inside", 'a"b'],
    ["a quote inside quotes", '"a"b"'],
    ["an invalid escape", String.raw`"a\b"`],
    ["an escaped closing quote", String.raw`"a\"`],
    ["parameters", '"a";p=1'],
    ["non-ASCII text", "schlüssel"],
    ["a control character", "a\u0001"],
    ["a tab", "a\tb"],
    ["a delete", "a\u007f"],
  ])("may not be %s", (_, header) =>
    expect(() => readIdempotencyKey(header)).toThrow(expect.objectContaining({ code: "malformed" })),
  );
});
