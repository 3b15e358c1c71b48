/** Maximum indexed words per text. Longer messages are found only by their beginning. */
const WORDS_MAX = 8_000;
/** Maximum code points per word; the rest is ignored. */
const WORD_CHARS_MAX = 60;

const unspacedScripts =
  "\\p{Script=Han}\\p{Script=Hiragana}\\p{Script=Katakana}\\p{Script=Thai}\\p{Script=Lao}\\p{Script=Khmer}";
/** Matches one character, with its marks, of a script without spaces between words. Each counts as a word. */
const unspacedSource = `[${unspacedScripts}\\p{Script=Myanmar}\\u30fc]\\p{M}*`;
const unspacedCharacter = new RegExp(unspacedSource, "gu");
const hasUnspaced = new RegExp(unspacedSource, "u");
const separators = /[^\p{L}\p{N}\p{M}]+/gu;
const separator = /[^\p{L}\p{N}\p{M}]/gu;
const tooLong = new RegExp(`([\\p{L}\\p{N}\\p{M}]{${WORD_CHARS_MAX}})[\\p{L}\\p{N}\\p{M}]+`, "gu");

/** Separates words for Postgres. Stored texts don't contain this character. */
const WORD_SEPARATOR = "\u0003";

/** Whether a text contains characters of a script without spaces. */
export const isUnspaced = (text: string): boolean => hasUnspaced.test(text);

/**
 * Splits a text into lower-case words for indexing and searching. Postgres isn't used for this, because it treats
 * `node.js` or a Chinese sentence as one word, and lowercases only ASCII if the database's locale is C.
 */
export function splitWords(text: string): string[] {
  const lower = text.normalize("NFC").toLowerCase();
  const split = isUnspaced(lower) ? lower.replaceAll(unspacedCharacter, " $& ") : lower;
  return split
    .replaceAll(separators, " ")
    .replaceAll(tooLong, "$1 ")
    .split(" ", WORDS_MAX + 2)
    .filter((word) => word !== "")
    .slice(0, WORDS_MAX);
}

/** Splits a text into words, and joins them with spaces. */
export const toWordText = (text: string): string => splitWords(text).join(" ");

/**
 * Prepares a text for highlighting by Postgres: it has the same words as the index and, without WORD_SEPARATOR, the
 * same length as the original.
 */
export function toHighlightText(text: string): string {
  const lower = text.toLowerCase();
  return (lower.length === text.length ? lower : text)
    .replaceAll(separator, (character) => " ".repeat(character.length))
    .replaceAll(unspacedCharacter, `${WORD_SEPARATOR}$&${WORD_SEPARATOR}`);
}

/** Finds the highlighted ranges, as positions in the original text: [start, end). */
export function findMarks(headline: string, start: string, stop: string): [number, number][] {
  const marks: [number, number][] = [];
  let at = 0;
  let from = 0;
  for (const unit of headline) {
    if (unit === start) from = at;
    else if (unit === stop) marks.push([from, at]);
    else if (unit !== WORD_SEPARATOR) at += unit.length;
  }
  return marks;
}
