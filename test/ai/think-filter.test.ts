import { expect, test } from "bun:test";
import fc from "fast-check";
import { createThinkFilter } from "../../src/ai/attempt/think-filter.ts";

/** Filters text that arrives in chunks. Returns the visible text and the reasoning. */
function filterChunks(...chunks: string[]): { text: string; reasoning: string } {
  let reasoning = "";
  const thinkFilter = createThinkFilter((thought) => {
    reasoning += thought;
  });
  const text = chunks.map((chunk) => thinkFilter.push(chunk)).join("") + thinkFilter.end();
  return { text, reasoning };
}

const cases: [name: string, text: string, visible: string, reasoning: string][] = [
  ["a leading block", "<think>Hm.\n</think>\n\nParis.", "Paris.", "Hm.\n"],
  ["a block after spaces", " \n<think>Hm.</think> Paris. ", "Paris. ", "Hm."],
  ["an empty block", "<think></think>\n\nParis.", "Paris.", ""],
  ["an unclosed block", "<think>Hm. Paris", "", "Hm. Paris"],
  ["a block that ends with the start of a tag", "<think>Hm.</thi", "", "Hm.</thi"],
  [
    "tags within a block",
    "<think>a < b, <think>, </thin and </p></think>Paris.",
    "Paris.",
    "a < b, <think>, </thin and </p>",
  ],
  ["two leading blocks", "<think>a</think>\n<think>b</think>\nParis.", "Paris.", "ab"],
  ["a block without text after it", "<think>a</think>\n\n", "", "a"],
  ["a tag within the text", "Write <think>this</think>.", "Write <think>this</think>.", ""],
  ["a tag after the first text", "<think>a</think>Paris <think>b</think>", "Paris <think>b</think>", "a"],
  ["a different tag", "<thinker>a</thinker>", "<thinker>a</thinker>", ""],
  ["a tag that isn't in lowercase", "<Think>a</Think>", "<Think>a</Think>", ""],
  ["only the start of a tag", " <thi", " <thi", ""],
  ["only a closing tag", "</think>Paris.", "</think>Paris.", ""],
  ["spaces before text", "\n\n  Paris.", "\n\n  Paris.", ""],
  ["many spaces", `${" ".repeat(500)}<think>a`, `${" ".repeat(500)}<think>a`, ""],
  ["only spaces", " \n ", "", ""],
  ["an empty string", "", "", ""],
];

test.each(cases)("filters %s the same way in one chunk and in single characters", (_name, text, visible, reasoning) => {
  expect(filterChunks(text)).toEqual({ text: visible, reasoning });
  expect(filterChunks(...text)).toEqual({ text: visible, reasoning });
});

test("the result doesn't depend on how the text is split", () => {
  const words = fc.array(fc.constantFrom("<think>", "</think>", "<thi", "</", "think>", " ", "\n", "a", "<", "🚀"));
  fc.assert(
    fc.property(words, fc.array(fc.nat()), (parts, cuts) => {
      const text = parts.join("");
      const cutIndexes = [0, ...cuts.map((cut) => cut % (text.length + 1)), text.length].sort((a, b) => a - b);
      const chunks = cutIndexes.slice(1).map((end, index) => text.slice(cutIndexes[index], end));
      expect(filterChunks(...chunks)).toEqual(filterChunks(text));
    }),
  );
});

test("text is withheld only if it may be a tag", () => {
  const thoughts: string[] = [];
  const thinkFilter = createThinkFilter((thought) => thoughts.push(thought));
  expect(thinkFilter.push("Paris")).toBe("Paris");
  const secondFilter = createThinkFilter((thought) => thoughts.push(thought));
  expect(secondFilter.push("<think>What a question</")).toBe("");
  expect(thoughts).toEqual(["What a question"]);
});
