/**
 * Maximum length of an answer, in UTF-16 code units, after which it ends with the reason `length`. Models write far less
 * (128,000 tokens are about 500,000 code units), so only a malfunctioning provider exceeds it.
 */
export const ANSWER_LENGTH_MAX = 1_000_000;

/** Maximum text per part, in UTF-16 code units. Even if JSON escapes all of them, the frame stays below 64 KiB. */
export const TEXT_PART_LENGTH_MAX = 8_192;

const isHighSurrogate = (text: string, index: number): boolean => (text.charCodeAt(index) & 0xfc00) === 0xd800;

/**
 * Makes a provider's text safe to store and send. Removes NUL, which Postgres can't store. Replaces lone surrogates, but
 * joins a surrogate pair that is split between two deltas. Splits the text into parts of at most TEXT_PART_LENGTH_MAX.
 * @param lengthMax the maximum length of all parts together, in UTF-16 code units.
 * @param show receives the parts.
 */
export function createTextCleaner(lengthMax: number, show: (text: string) => void) {
  let pendingSurrogate = "";
  let remainingLength = lengthMax;

  function showInParts(text: string): void {
    let start = 0;
    while (start < text.length && remainingLength > 0) {
      let end = Math.min(text.length, start + Math.min(TEXT_PART_LENGTH_MAX, remainingLength));
      if (end < text.length && isHighSurrogate(text, end - 1)) end -= 1;
      if (end === start) remainingLength = 0;
      else show(text.slice(start, end));
      remainingLength -= end - start;
      start = end;
    }
    if (start < text.length) remainingLength = 0;
  }

  return {
    isFull: () => remainingLength <= 0,
    /** Shows the text. A high surrogate at its end is kept until the next call. */
    push(text: string): void {
      let joined = pendingSurrogate + text;
      pendingSurrogate = "";
      if (isHighSurrogate(joined, joined.length - 1)) {
        pendingSurrogate = joined.slice(-1);
        joined = joined.slice(0, -1);
      }
      if (joined.includes("\0")) joined = joined.replaceAll("\0", "");
      if (!joined.isWellFormed()) joined = joined.toWellFormed();
      if (joined === "") return;
      if (joined.length > TEXT_PART_LENGTH_MAX || joined.length > remainingLength) showInParts(joined);
      else {
        remainingLength -= joined.length;
        show(joined);
      }
    },
  };
}
