/** Maximum length of a repetition that is removed, in UTF-16 code units. */
const OVERLAP_LENGTH_MAX = 4_000;

/** Minimum length of a repetition that is removed. Shorter ones may be intended: "very, very". */
export const OVERLAP_LENGTH_MIN = 10;

/**
 * Removes the start of a continuation if it repeats the end of the previous text. A model that is asked to continue often
 * repeats the last sentence, or everything. The start of the continuation is buffered while it may be a repetition, which is
 * usually a few words.
 */
export function createOverlapTrimmer(previousText: string) {
  const tail = previousText.slice(-OVERLAP_LENGTH_MAX);
  let buffer = "";
  let removedText = "";
  let isMatching = tail !== "";

  /** Returns the length of the longest start of `buffer` that the previous text ends with. */
  function findOverlap(): number {
    for (let length = Math.min(buffer.length, tail.length); length > 0; length -= 1) {
      const isLongEnough = length >= OVERLAP_LENGTH_MIN || length === previousText.length;
      if (isLongEnough && tail.endsWith(buffer.slice(0, length))) return length;
    }
    return 0;
  }

  function trimBuffer(): string {
    isMatching = false;
    const overlap = findOverlap();
    const text = buffer.slice(overlap);
    removedText = buffer.slice(0, overlap);
    buffer = "";
    return text;
  }

  return {
    /** Returns the text that is ready to be shown. */
    push(text: string): string {
      if (!isMatching) return text;
      buffer += text;
      // While the tail contains the buffered text, the repetition may extend to the tail's end.
      return tail.includes(buffer) ? "" : trimBuffer();
    },
    /** Returns the buffered text at the end of the continuation. */
    end(): string {
      return isMatching ? trimBuffer() : "";
    },
    /** Returns the text that the model wrote but that wasn't shown. */
    getHiddenText: (): string => removedText + buffer,
  };
}
