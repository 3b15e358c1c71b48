/** Maximum number of indexed words per message. Later words are not found. */
const WORDS_MAX = 8_000;
/** Maximum number of code points per word. The rest is ignored. */
const WORD_CODE_POINTS_MAX = 60;

const UNSPACED_SCRIPTS =
  "\\p{Script=Han}\\p{Script=Hiragana}\\p{Script=Katakana}\\p{Script=Thai}\\p{Script=Lao}\\p{Script=Khmer}";
/** Matches a character (with its marks) in a script without spaces between words. Each one counts as a word. */
const UNSPACED_PATTERN = `[${UNSPACED_SCRIPTS}\\p{Script=Myanmar}\\u30fc]\\p{M}*`;
const UNSPACED_CHARACTER = new RegExp(UNSPACED_PATTERN, "gu");
const HAS_UNSPACED = new RegExp(UNSPACED_PATTERN, "u");
const SEPARATORS = /[^\p{L}\p{N}\p{M}]+/gu;
const SEPARATOR = /[^\p{L}\p{N}\p{M}]/gu;
const TOO_LONG_WORD = new RegExp(`([\\p{L}\\p{N}\\p{M}]{${WORD_CODE_POINTS_MAX}})[\\p{L}\\p{N}\\p{M}]+`, "gu");

/** Separates words for Postgres. Stored messages don't contain this character. */
const WORD_SEPARATOR = "\u0003";

/** Returns whether text contains characters of a script without spaces. */
export const isUnspaced = (text: string): boolean => HAS_UNSPACED.test(text);

/**
 * Splits text into lowercase words for indexing and searching. Postgres's parser isn't suitable, because it treats `node.js` or a
 * Chinese sentence as one word, and lowercases only ASCII if the database's locale is C.
 */
export function splitWords(text: string): string[] {
  const lower = text.normalize("NFC").toLowerCase();
  const spacedText = isUnspaced(lower) ? lower.replaceAll(UNSPACED_CHARACTER, " $& ") : lower;
  return spacedText
    .replaceAll(SEPARATORS, " ")
    .replaceAll(TOO_LONG_WORD, "$1 ")
    .split(" ", WORDS_MAX + 2)
    .filter((word) => word !== "")
    .slice(0, WORDS_MAX);
}

/** Splits text into words, and joins them with spaces. */
export const toWordText = (text: string): string => splitWords(text).join(" ");

/**
 * Prepares text for highlighting by Postgres. The result has the same words as the index. Except for the added separators, it is as
 * long as the original.
 */
export function toHighlightText(text: string): string {
  const lower = text.toLowerCase();
  return (lower.length === text.length ? lower : text)
    .replaceAll(SEPARATOR, (character) => " ".repeat(character.length))
    .replaceAll(UNSPACED_CHARACTER, `${WORD_SEPARATOR}$&${WORD_SEPARATOR}`);
}

/** Finds the highlighted ranges, as positions [start, end) in the original text. */
export function findMarks(headline: string, start: string, stop: string): [number, number][] {
  const marks: [number, number][] = [];
  let position = 0;
  let markStart = 0;
  for (const character of headline) {
    if (character === start) markStart = position;
    else if (character === stop) marks.push([markStart, position]);
    else if (character !== WORD_SEPARATOR) position += character.length;
  }
  return marks;
}
