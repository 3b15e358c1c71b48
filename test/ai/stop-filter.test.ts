import { expect, test } from "bun:test";
import fc from "fast-check";
import { createStopFilter } from "../../src/ai/attempt/stop-filter.ts";
import { countRuns } from "../support/properties.ts";

/** The text shown for these pieces, up to its stop sequence or its end. */
function filter(stops: readonly string[], pieces: readonly string[]): string {
  const stopFilter = createStopFilter(stops);
  const shown: string[] = [];
  for (const piece of pieces) if (!stopFilter.isStopped()) shown.push(stopFilter.push(piece));
  return shown.join("") + stopFilter.end();
}

test("only a possible start of a stop sequence is held back", () => {
  const stopFilter = createStopFilter(["END", "\n\n"]);
  expect(stopFilter.push("One E")).toBe("One ");
  expect(stopFilter.push("N")).toBe("");
  expect(stopFilter.push("T\n")).toBe("ENT");
  expect(stopFilter.push("two\n")).toBe("\ntwo");
  expect([stopFilter.push("\nthree"), stopFilter.isStopped(), stopFilter.push("four")]).toEqual(["", true, ""]);
});

test("of two stop sequences, the first complete one applies", () => {
  for (const pieces of [["aab", "x"], ["aabx"], ["a", "a", "b", "x"]]) expect(filter(["aabx", "b"], pieces)).toBe("aa");
});

test("however a text is split, it ends before its stop sequence, and is complete without one", () => {
  const letters = fc.string({ unit: fc.constantFrom("a", "b", "🦊"), maxLength: 12 });
  const stops = fc.array(fc.string({ unit: fc.constantFrom("a", "b", "🦊"), minLength: 1, maxLength: 4 }), {
    maxLength: 4,
  });
  fc.assert(
    fc.property(fc.array(letters, { maxLength: 6 }), stops, (pieces, wanted) => {
      const text = pieces.join("");
      // The oracle processes the text unit by unit.
      let expected = text;
      for (let end = 1; end <= text.length && expected === text; end += 1) {
        const stop = wanted.filter((one) => text.slice(0, end).endsWith(one)).sort((a, b) => b.length - a.length)[0];
        if (stop !== undefined) expected = text.slice(0, end - stop.length);
      }
      expect(filter(wanted, pieces)).toBe(expected);
    }),
    { numRuns: countRuns(2_000) },
  );
});
