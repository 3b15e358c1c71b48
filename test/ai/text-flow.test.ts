import { expect, test } from "bun:test";
import fc from "fast-check";
import { createTextFlow, TEXT_PART_LENGTH_MAX } from "../../src/ai/text-flow.ts";

test("parts are well-formed, bounded, and hold all that fits", () => {
  const unit = fc.constantFrom("a", "\0", "\ud83d", "\ude80", "é");
  fc.assert(
    fc.property(
      fc.array(fc.string({ unit, maxLength: 12 }), { maxLength: 8 }),
      fc.integer({ min: 1, max: 60 }),
      (deltas, room) => {
        const flow = createTextFlow(room);
        const parts = deltas.flatMap((delta) => [...flow.push(delta)]);
        const shown = parts.join("");
        // A half character at the very end is dropped.
        const all = deltas
          .join("")
          .replace(/[\ud800-\udbff]$/, "")
          .replaceAll("\0", "");
        const whole = all.toWellFormed();
        for (const part of parts) expect(part.isWellFormed() && part.length > 0).toBe(true);
        expect(shown.length).toBeLessThanOrEqual(room);
        // A NUL between the halves of a pair may part them for ever: compare only where there is none.
        if (!deltas.join("").includes("\0")) expect(whole.startsWith(shown)).toBe(true);
        if (!deltas.join("").includes("\0") && whole.length <= room) expect(shown).toBe(whole);
      },
    ),
  );
});

test("a large text is cut between characters", () => {
  const flow = createTextFlow(100_000);
  const text = `x${"🚀".repeat(TEXT_PART_LENGTH_MAX)}`;
  const parts = [...flow.push(text)];
  expect(parts.join("")).toBe(text);
  expect(parts.length).toBe(3);
  for (const part of parts) expect(part.length <= TEXT_PART_LENGTH_MAX && part.isWellFormed()).toBe(true);
});

test("it is full at its bound, and shows nothing more", () => {
  const flow = createTextFlow(5);
  expect([...flow.push("abc")]).toEqual(["abc"]);
  expect(flow.isFull()).toBe(false);
  expect([...flow.push("d🚀e")]).toEqual(["d"]);
  expect(flow.isFull()).toBe(true);
  expect([...flow.push("more")]).toEqual([]);
});
