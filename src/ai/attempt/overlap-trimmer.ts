/** Maximum length of a repetition that is removed, in UTF-16 code units. */
const OVERLAP_LENGTH_MAX = 4_000;

/** Minimum length of a repetition that is removed. Shorter ones may be intended: "very, very". */
export const OVERLAP_LENGTH_MIN = 10;

/**
 * Removes repeated text where a continuation meets the text before it. Models asked to continue often repeat the last
 * sentence, or everything. The start of the continuation is buffered for as long as it may be a repetition, usually a few
 * words.
 */
export function createOverlapTrimmer(before: string) {
  const tail = before.slice(-OVERLAP_LENGTH_MAX);
  let buffer = "";
  let removed = "";
  let isMatching = tail !== "";

  /** Returns the length of the longest start of `buffer` that the previous text ends with. */
  function findOverlap(): number {
    for (let length = Math.min(buffer.length, tail.length); length > 0; length -= 1) {
      const isLong = length >= OVERLAP_LENGTH_MIN || length === before.length;
      if (isLong && tail.endsWith(buffer.slice(0, length))) return length;
    }
    return 0;
  }

  function finish(): string {
    isMatching = false;
    const overlap = findOverlap();
    const text = buffer.slice(overlap);
    removed = buffer.slice(0, overlap);
    buffer = "";
    return text;
  }

  return {
    /** Returns the text that is ready to be shown. */
    push(text: string): string {
      if (!isMatching) return text;
      buffer += text;
      // While the tail contains the buffered text, the repetition may extend to the tail's end.
      return tail.includes(buffer) ? "" : finish();
    },
    /** Returns the buffered text at the end of the continuation. */
    end(): string {
      return isMatching ? finish() : "";
    },
    /** Returns the text that the model wrote but that wasn't shown. */
    unshown: (): string => removed + buffer,
  };
}
