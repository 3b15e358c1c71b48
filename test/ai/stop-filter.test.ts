import { expect, test } from "bun:test";
import fc from "fast-check";
import { createStopFilter } from "../../src/ai/attempt/stop-filter.ts";
import { scaleRuns } from "../support/property-tests.ts";

/** Filters text that arrives in chunks. */
function filterChunks(stopSequences: readonly string[], chunks: readonly string[]): string {
  const stopFilter = createStopFilter(stopSequences);
  const output: string[] = [];
  for (const chunk of chunks) if (!stopFilter.isStopped()) output.push(stopFilter.push(chunk));
  return output.join("") + stopFilter.end();
}

test("text is withheld only if it may start a stop sequence", () => {
  const stopFilter = createStopFilter(["END", "\n\n"]);
  expect(stopFilter.push("One E")).toBe("One ");
  expect(stopFilter.push("N")).toBe("");
  expect(stopFilter.push("T\n")).toBe("ENT");
  expect(stopFilter.push("two\n")).toBe("\ntwo");
  expect([stopFilter.push("\nthree"), stopFilter.isStopped(), stopFilter.push("four")]).toEqual(["", true, ""]);
});

test("text ends at the stop sequence that is completed first", () => {
  for (const chunks of [["aab", "x"], ["aabx"], ["a", "a", "b", "x"]])
    expect(filterChunks(["aabx", "b"], chunks)).toBe("aa");
});

test("output ends before the stop sequence, however the text is chunked", () => {
  const arbitraryText = fc.string({ unit: fc.constantFrom("a", "b", "🦊"), maxLength: 12 });
  const arbitraryStopSequences = fc.array(
    fc.string({ unit: fc.constantFrom("a", "b", "🦊"), minLength: 1, maxLength: 4 }),
    {
      maxLength: 4,
    },
  );
  fc.assert(
    fc.property(fc.array(arbitraryText, { maxLength: 6 }), arbitraryStopSequences, (chunks, stopSequences) => {
      const text = chunks.join("");
      // Finds the expected text by checking each prefix in turn.
      let expected = text;
      for (let end = 1; end <= text.length && expected === text; end += 1) {
        const stop = stopSequences
          .filter((sequence) => text.slice(0, end).endsWith(sequence))
          .sort((a, b) => b.length - a.length)[0];
        if (stop !== undefined) expected = text.slice(0, end - stop.length);
      }
      expect(filterChunks(stopSequences, chunks)).toBe(expected);
    }),
    { numRuns: scaleRuns(2_000) },
  );
});
