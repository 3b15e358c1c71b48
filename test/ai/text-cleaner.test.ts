import { expect, test } from "bun:test";
import fc from "fast-check";
import { createTextCleaner, TEXT_PART_LENGTH_MAX } from "../../src/ai/attempt/text-cleaner.ts";

/** Creates a cleaner that records its output. */
function createCleaner(lengthMax: number) {
  const output: string[] = [];
  return { output, cleaner: createTextCleaner(lengthMax, (text) => output.push(text)) };
}

test("the output is well-formed, limited, and contains everything that fits", () => {
  const unit = fc.constantFrom("a", "\0", "\ud83d", "\ude80", "é");
  fc.assert(
    fc.property(
      fc.array(fc.string({ unit, maxLength: 12 }), { maxLength: 8 }),
      fc.integer({ min: 1, max: 60 }),
      (deltas, lengthMax) => {
        const { output: chunks, cleaner } = createCleaner(lengthMax);
        for (const delta of deltas) cleaner.push(delta);
        const output = chunks.join("");
        // A trailing half of a surrogate pair is dropped.
        const input = deltas
          .join("")
          .replace(/[\ud800-\udbff]$/, "")
          .replaceAll("\0", "");
        const cleanedInput = input.toWellFormed();
        for (const chunk of chunks) expect(chunk.isWellFormed() && chunk.length > 0).toBe(true);
        expect(output.length).toBeLessThanOrEqual(lengthMax);
        // A NUL can separate the halves of a pair, so strings with NULs aren't compared.
        if (!deltas.join("").includes("\0")) expect(cleanedInput.startsWith(output)).toBe(true);
        if (!deltas.join("").includes("\0") && cleanedInput.length <= lengthMax) expect(output).toBe(cleanedInput);
      },
    ),
  );
});

test("long text is split between characters", () => {
  const { output, cleaner } = createCleaner(100_000);
  const text = `x${"🚀".repeat(TEXT_PART_LENGTH_MAX)}`;
  cleaner.push(text);
  expect(output.join("")).toBe(text);
  expect(output.length).toBe(3);
  for (const chunk of output) expect(chunk.length <= TEXT_PART_LENGTH_MAX && chunk.isWellFormed()).toBe(true);
});

test("a cleaner produces no more output after reaching its limit", () => {
  const { output, cleaner } = createCleaner(5);
  cleaner.push("abc");
  expect(output).toEqual(["abc"]);
  expect(cleaner.isFull()).toBe(false);
  cleaner.push("d🚀e");
  expect(output).toEqual(["abc", "d"]);
  expect(cleaner.isFull()).toBe(true);
  cleaner.push("more");
  expect(output).toEqual(["abc", "d"]);
});
