import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createOverlapTrimmer, OVERLAP_LENGTH_MIN } from "../../src/ai/attempt/overlap-trimmer.ts";

function join(before: string, pieces: string[]): string {
  const trimmer = createOverlapTrimmer(before);
  return before + pieces.map((piece) => trimmer.push(piece)).join("") + trimmer.end();
}

describe("createOverlapTrimmer", () => {
  test.each([
    ["nothing repeated", "The quick brown ", ["fox ", "jumps"], "The quick brown fox jumps"],
    ["the last words repeated", "The quick brown fox", ["quick ", "brown ", "fox jumps"], "The quick brown fox jumps"],
    ["all repeated", "Hi", ["Hi ", "there"], "Hi there"],
    ["everything repeated, in small pieces", "one two three", ["one", " two", " three", " four"], "one two three four"],
    ["only the repetition", "one two three four", ["two three", " four"], "one two three four"],
    ["a short repetition may be intended", "1, 1,", [" 1, 2"], "1, 1, 1, 2"],
    ["a start that looks like a repetition", "the cat and the dog", ["the ", "cow"], "the cat and the dogthe cow"],
    ["nothing before", "", ["a", "b"], "ab"],
  ])("%s", (_name, before, pieces, expected) => {
    expect(join(before, pieces)).toBe(expected);
  });

  test("text is shown immediately if it can't be a repetition", () => {
    const trimmer = createOverlapTrimmer("The quick brown fox");
    expect(trimmer.push("jumps")).toBe("jumps");
    expect(trimmer.push("fox")).toBe("fox");
  });

  test("the result doesn't depend on how it is split, and only a repetition of the end is ever removed", () => {
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
        const trimmer = createOverlapTrimmer(before);
        for (const piece of pieces) trimmer.push(piece);
        const held = trimmer.unshown();
        expect(before.includes(held)).toBe(true);
        trimmer.end();
        expect(trimmer.unshown()).toBe(continuation.slice(0, missing));
        expect(missing === 0 || missing >= OVERLAP_LENGTH_MIN || missing === before.length).toBe(true);
      }),
    );
  });
});
