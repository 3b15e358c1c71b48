/** Words of a text that are indexed; a message that is longer is found by its beginning. Positions in an index end at 16,383. */
const WORDS_MAX = 8_000;
/** Code points of a word that count. */
const WORD_CHARS_MAX = 60;

const unspaced =
  "\\p{Script=Han}\\p{Script=Hiragana}\\p{Script=Katakana}\\p{Script=Thai}\\p{Script=Lao}\\p{Script=Khmer}";
/** One character of a script that has no blanks between its words, with its marks. Each is a word of its own. */
const unspacedSource = `[${unspaced}\\p{Script=Myanmar}\\u30fc]\\p{M}*`;
const unspacedCharacter = new RegExp(unspacedSource, "gu");
const hasUnspaced = new RegExp(unspacedSource, "u");
const separators = /[^\p{L}\p{N}\p{M}]+/gu;
const separator = /[^\p{L}\p{N}\p{M}]/gu;
const tooLong = new RegExp(`([\\p{L}\\p{N}\\p{M}]{${WORD_CHARS_MAX}})[\\p{L}\\p{N}\\p{M}]+`, "gu");

/** Stands where Postgres shall see two words; no stored text has it. */
const WORD_SEAM = "\u0003";

/** Whether a text has characters of a script without blanks. */
export const isUnspaced = (text: string): boolean => hasUnspaced.test(text);

/**
 * The words of a text in small letters, as they are indexed and looked for. Done here and not by Postgres, which takes `node.js`
 * for one word, a Chinese sentence too, and changes only ASCII to small letters if the language of the database is C.
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

/** The same as one text of words and blanks. */
export const toWordText = (text: string): string => splitWords(text).join(" ");

/** A piece of text as Postgres is to highlight it: with the same words, and, without its seams, of the same length. */
export function toHighlightText(text: string): string {
  const lower = text.toLowerCase();
  return (lower.length === text.length ? lower : text)
    .replaceAll(separator, (character) => " ".repeat(character.length))
    .replaceAll(unspacedCharacter, `${WORD_SEAM}$&${WORD_SEAM}`);
}

/** Parts of a highlighted text of `toHighlightText`, as places in the text itself: [start, end). */
export function findMarks(headline: string, start: string, stop: string): [number, number][] {
  const marks: [number, number][] = [];
  let at = 0;
  let from = 0;
  for (const unit of headline) {
    if (unit === start) from = at;
    else if (unit === stop) marks.push([from, at]);
    else if (unit !== WORD_SEAM) at += unit.length;
  }
  return marks;
}
