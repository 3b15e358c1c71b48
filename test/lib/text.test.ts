import { expect, test } from "bun:test";
import fc from "fast-check";
import { hasVisibleCharacter } from "../../src/lib/text.ts";

/** Matches invisible characters by their Unicode properties, independently of the code under test. */
const invisibleProperties = /^[\p{Default_Ignorable_Code_Point}\p{White_Space}\p{Cf}\p{Mn}]$/u;
/** Characters that have a blank glyph. */
const blankCharacters = [
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
const invisibleCharacters = [
  ...Array.from({ length: 0x110000 }, (_, point) => point)
    .filter((point) => point < 0xd800 || point > 0xdfff)
    .map((point) => String.fromCodePoint(point))
    .filter((character) => invisibleProperties.test(character)),
  ...blankCharacters,
];
const visibleProperties = /^[\p{L}\p{N}\p{P}\p{S}]$/u;
const visibleCharacter = fc
  .integer({ min: 0x21, max: 0x1ffff })
  .filter((point) => point < 0xd800 || point > 0xdfff)
  .map((point) => String.fromCodePoint(point))
  .filter(
    (character) =>
      visibleProperties.test(character) && !invisibleProperties.test(character) && !blankCharacters.includes(character),
  );

test("text that contains only invisible characters is not visible", () => {
  expect(invisibleCharacters.length).toBeGreaterThan(5_000);
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...invisibleCharacters)), (characters) => {
      expect(hasVisibleCharacter(characters.join(""))).toBe(false);
    }),
  );
  expect(invisibleCharacters.filter(hasVisibleCharacter)).toEqual([]);
});

test("text that contains one visible character is visible", () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(...invisibleCharacters)),
      visibleCharacter,
      fc.array(fc.constantFrom(...invisibleCharacters)),
      (before, character, after) => {
        expect(hasVisibleCharacter([...before, character, ...after].join(""))).toBe(true);
      },
    ),
  );
});

test.each(["a", "7", "-", "…", "ا", "あ", "한", "ำ", "👍", "👩‍👩‍👧", "🇩🇪", "1️⃣", "\ue000", "\u200fא"])(
  "%j is visible",
  (text) => {
    expect(hasVisibleCharacter(text)).toBe(true);
  },
);
