import { expect, test } from "bun:test";
import fc from "fast-check";
import { createTextCleaner, TEXT_PART_LENGTH_MAX } from "../../src/ai/attempt/text-cleaner.ts";

/** A cleaner, and its output. */
function createShown(room: number) {
  const shown: string[] = [];
  return { shown, cleaner: createTextCleaner(room, (text) => shown.push(text)) };
}

test("pieces are well-formed, limited, and contain everything that fits", () => {
  const unit = fc.constantFrom("a", "\0", "\ud83d", "\ude80", "é");
  fc.assert(
    fc.property(
      fc.array(fc.string({ unit, maxLength: 12 }), { maxLength: 8 }),
      fc.integer({ min: 1, max: 60 }),
      (deltas, room) => {
        const { shown: pieces, cleaner } = createShown(room);
        for (const delta of deltas) cleaner.push(delta);
        const shown = pieces.join("");
        // A trailing half of a surrogate pair is dropped.
        const all = deltas
          .join("")
          .replace(/[\ud800-\udbff]$/, "")
          .replaceAll("\0", "");
        const whole = all.toWellFormed();
        for (const piece of pieces) expect(piece.isWellFormed() && piece.length > 0).toBe(true);
        expect(shown.length).toBeLessThanOrEqual(room);
        // A NUL may separate the halves of a pair permanently, so compare only without NUL.
        if (!deltas.join("").includes("\0")) expect(whole.startsWith(shown)).toBe(true);
        if (!deltas.join("").includes("\0") && whole.length <= room) expect(shown).toBe(whole);
      },
    ),
  );
});

test("a large text is cut between characters", () => {
  const { shown, cleaner } = createShown(100_000);
  const text = `x${"🚀".repeat(TEXT_PART_LENGTH_MAX)}`;
  cleaner.push(text);
  expect(shown.join("")).toBe(text);
  expect(shown.length).toBe(3);
  for (const piece of shown) expect(piece.length <= TEXT_PART_LENGTH_MAX && piece.isWellFormed()).toBe(true);
});

test("at its limit it is full, and outputs nothing more", () => {
  const { shown, cleaner } = createShown(5);
  cleaner.push("abc");
  expect(shown).toEqual(["abc"]);
  expect(cleaner.isFull()).toBe(false);
  cleaner.push("d🚀e");
  expect(shown).toEqual(["abc", "d"]);
  expect(cleaner.isFull()).toBe(true);
  cleaner.push("more");
  expect(shown).toEqual(["abc", "d"]);
});
