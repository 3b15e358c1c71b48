import { expect, test } from "bun:test";
import fc from "fast-check";
import { isVisible } from "../../src/lib/text.ts";

/** Derived from Unicode's properties, independent of the tested expression, plus the characters with a blank glyph. */
const properties = /^[\p{Default_Ignorable_Code_Point}\p{White_Space}\p{Cf}\p{Mn}]$/u;
const blank = [
  "\u2800",
  "\u3164",
  "\u115f",
  "\u1160",
  "\uffa0",
  "\ufffc",
  "\u{1d159}",
  "\u200b",
  "\u2060",
  "\u00ad",
  "\ufeff",
];
const invisible = [
  ...Array.from({ length: 0x110000 }, (_, point) => point)
    .filter((point) => point < 0xd800 || point > 0xdfff)
    .map((point) => String.fromCodePoint(point))
    .filter((character) => properties.test(character)),
  ...blank,
];
const seen = /^[\p{L}\p{N}\p{P}\p{S}]$/u;
const visible = fc
  .integer({ min: 0x21, max: 0x1ffff })
  .filter((point) => point < 0xd800 || point > 0xdfff)
  .map((point) => String.fromCodePoint(point))
  .filter((character) => seen.test(character) && !properties.test(character) && !blank.includes(character));

test("a text of invisible characters is not visible", () => {
  expect(invisible.length).toBeGreaterThan(5_000);
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...invisible)), (characters) => {
      expect(isVisible(characters.join(""))).toBe(false);
    }),
  );
  expect(invisible.filter(isVisible)).toEqual([]);
});

test("one visible character makes it visible", () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(...invisible)),
      visible,
      fc.array(fc.constantFrom(...invisible)),
      (before, character, after) => {
        expect(isVisible([...before, character, ...after].join(""))).toBe(true);
      },
    ),
  );
});

test.each(["a", "7", "-", "…", "ا", "あ", "한", "ำ", "👍", "👩‍👩‍👧", "🇩🇪", "1️⃣", "\ue000", "\u200fא"])(
  "%j is visible",
  (text) => {
    expect(isVisible(text)).toBe(true);
  },
);
