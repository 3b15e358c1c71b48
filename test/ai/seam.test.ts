import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createSeam, OVERLAP_LENGTH_MIN } from "../../src/ai/seam.ts";

function join(before: string, pieces: string[]): string {
  const seam = createSeam(before);
  return before + pieces.map((piece) => seam.push(piece)).join("") + seam.end();
}

describe("createSeam", () => {
  test.each([
    ["nothing repeated", "The quick brown ", ["fox ", "jumps"], "The quick brown fox jumps"],
    ["the last words repeated", "The quick brown fox", ["quick ", "brown ", "fox jumps"], "The quick brown fox jumps"],
    ["all repeated", "Hi", ["Hi ", "there"], "Hi there"],
    ["all repeated, in small pieces", "one two three", ["one", " two", " three", " four"], "one two three four"],
    ["nothing but the repetition", "one two three four", ["two three", " four"], "one two three four"],
    ["a short repetition may be meant", "1, 1,", [" 1, 2"], "1, 1, 1, 2"],
    ["a beginning that looks like one", "the cat and the dog", ["the ", "cow"], "the cat and the dogthe cow"],
    ["nothing before", "", ["a", "b"], "ab"],
  ])("%s", (_name, before, pieces, expected) => {
    expect(join(before, pieces)).toBe(expected);
  });

  test("text flows at once when it cannot be a repetition", () => {
    const seam = createSeam("The quick brown fox");
    expect(seam.push("jumps")).toBe("jumps");
    expect(seam.push("fox")).toBe("fox");
  });

  test("however it is cut, the result is the same, and only a repetition of the end is ever missing", () => {
    const text = fc.string({ unit: fc.constantFrom("a", "b", " "), maxLength: 40 });
    fc.assert(
      fc.property(text, fc.array(text, { maxLength: 5 }), (before, pieces) => {
        const continuation = pieces.join("");
        const joined = join(before, pieces);
        expect(join(before, [...continuation])).toBe(join(before, [continuation]));
        const missing = before.length + continuation.length - joined.length;
        expect(joined.startsWith(before)).toBe(true);
        expect(continuation.endsWith(joined.slice(before.length))).toBe(true);
        expect(before.endsWith(continuation.slice(0, missing))).toBe(true);
        expect(missing === 0 || missing >= OVERLAP_LENGTH_MIN || missing === before.length).toBe(true);
      }),
    );
  });
});
