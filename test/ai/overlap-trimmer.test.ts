import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createOverlapTrimmer, OVERLAP_LENGTH_MIN } from "../../src/ai/attempt/overlap-trimmer.ts";

function joinContinuation(before: string, chunks: string[]): string {
  const trimmer = createOverlapTrimmer(before);
  return before + chunks.map((chunk) => trimmer.push(chunk)).join("") + trimmer.end();
}

describe("createOverlapTrimmer", () => {
  test.each([
    ["no repetition", "The quick brown ", ["fox ", "jumps"], "The quick brown fox jumps"],
    ["the last words repeated", "The quick brown fox", ["quick ", "brown ", "fox jumps"], "The quick brown fox jumps"],
    ["the whole text repeated", "Hi", ["Hi ", "there"], "Hi there"],
    [
      "the whole text repeated in small chunks",
      "one two three",
      ["one", " two", " three", " four"],
      "one two three four",
    ],
    ["only a repetition", "one two three four", ["two three", " four"], "one two three four"],
    ["a short repetition, which may be intended", "1, 1,", [" 1, 2"], "1, 1, 1, 2"],
    ["a start that looks like a repetition", "the cat and the dog", ["the ", "cow"], "the cat and the dogthe cow"],
    ["no text before it", "", ["a", "b"], "ab"],
  ])("joins a continuation with %s", (_name, before, chunks, expected) => {
    expect(joinContinuation(before, chunks)).toBe(expected);
  });

  test("returns text immediately if it can't be a repetition", () => {
    const trimmer = createOverlapTrimmer("The quick brown fox");
    expect(trimmer.push("jumps")).toBe("jumps");
    expect(trimmer.push("fox")).toBe("fox");
  });

  test("removes only a repetition of the end, however the continuation is split", () => {
    const arbitraryText = fc.string({ unit: fc.constantFrom("a", "b", " "), maxLength: 40 });
    fc.assert(
      fc.property(arbitraryText, fc.array(arbitraryText, { maxLength: 5 }), (before, chunks) => {
        const continuation = chunks.join("");
        const joinedText = joinContinuation(before, chunks);
        expect(joinContinuation(before, [...continuation])).toBe(joinContinuation(before, [continuation]));
        const removedLength = before.length + continuation.length - joinedText.length;
        expect(joinedText.startsWith(before)).toBe(true);
        expect(continuation.endsWith(joinedText.slice(before.length))).toBe(true);
        expect(before.endsWith(continuation.slice(0, removedLength))).toBe(true);
        const trimmer = createOverlapTrimmer(before);
        for (const chunk of chunks) trimmer.push(chunk);
        const hiddenText = trimmer.getHiddenText();
        expect(before.includes(hiddenText)).toBe(true);
        trimmer.end();
        expect(trimmer.getHiddenText()).toBe(continuation.slice(0, removedLength));
        expect(removedLength === 0 || removedLength >= OVERLAP_LENGTH_MIN || removedLength === before.length).toBe(
          true,
        );
      }),
    );
  });
});
