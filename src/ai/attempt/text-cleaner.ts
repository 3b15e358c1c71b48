/**
 * Most text of one answer, in UTF-16 units. Models write far less (128,000 tokens are about 500,000 units), so only a
 * malfunctioning provider reaches it. The answer then ends with the reason `length`.
 */
export const ANSWER_LENGTH_MAX = 1_000_000;

/** Most text in one part, in UTF-16 units. Even if JSON escapes every unit, its frame stays below 64 KiB. */
export const TEXT_PART_LENGTH_MAX = 8_192;

const isHighSurrogate = (text: string, index: number): boolean => (text.charCodeAt(index) & 0xfc00) === 0xd800;

/**
 * Makes a provider's text safe to store and send: removes NUL, which Postgres can't store, and lone surrogates (a pair split
 * between two deltas is joined), and cuts it into bounded pieces of `room` UTF-16 units in total.
 * @param show receives the pieces to show.
 */
export function createTextCleaner(room: number, show: (text: string) => void) {
  let half = "";
  let left = room;

  function showInParts(text: string): void {
    let start = 0;
    while (start < text.length && left > 0) {
      let end = Math.min(text.length, start + Math.min(TEXT_PART_LENGTH_MAX, left));
      if (end < text.length && isHighSurrogate(text, end - 1)) end -= 1;
      if (end === start) left = 0;
      else show(text.slice(start, end));
      left -= end - start;
      start = end;
    }
    if (start < text.length) left = 0;
  }

  return {
    isFull: () => left <= 0,
    /** Shows the text. A trailing half of a surrogate pair waits for its other half and is dropped without it. */
    push(text: string): void {
      let whole = half + text;
      half = "";
      if (isHighSurrogate(whole, whole.length - 1)) {
        half = whole.slice(-1);
        whole = whole.slice(0, -1);
      }
      if (whole.includes("\0")) whole = whole.replaceAll("\0", "");
      if (!whole.isWellFormed()) whole = whole.toWellFormed();
      if (whole === "") return;
      if (whole.length > TEXT_PART_LENGTH_MAX || whole.length > left) showInParts(whole);
      else {
        left -= whole.length;
        show(whole);
      }
    },
  };
}
