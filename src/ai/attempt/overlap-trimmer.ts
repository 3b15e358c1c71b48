/** How far back to look for repeated text, in UTF-16 units. */
const OVERLAP_LENGTH_MAX = 4_000;

/** The shortest repetition that is removed. Shorter ones may be intended: "1, 1, 2", "very, very". */
export const OVERLAP_LENGTH_MIN = 10;

/**
 * Joins a continuation to the text before it. Models asked to continue often repeat the last sentence, or everything; the
 * repetition is removed so that both read as one text. The start of the continuation is held back while it may still be a
 * repetition: a few words at most, unless it is one.
 */
export function createOverlapTrimmer(before: string) {
  const tail = before.slice(-OVERLAP_LENGTH_MAX);
  let held = "";
  let cut = "";
  let isOpen = tail !== "";

  /** Length of the longest start of `held` that the previous text ends with. */
  function findOverlap(): number {
    for (let length = Math.min(held.length, tail.length); length > 0; length -= 1) {
      const isLong = length >= OVERLAP_LENGTH_MIN || length === before.length;
      if (isLong && tail.endsWith(held.slice(0, length))) return length;
    }
    return 0;
  }

  function settle(): string {
    isOpen = false;
    const overlap = findOverlap();
    const text = held.slice(overlap);
    cut = held.slice(0, overlap);
    held = "";
    return text;
  }

  return {
    /** Returns the part of the continuation that can be shown now. */
    push(text: string): string {
      if (!isOpen) return text;
      held += text;
      // The held text occurs inside the tail, so it may still reach the tail's end.
      return tail.includes(held) ? "" : settle();
    },
    /** Returns the held text, at the end of the continuation. */
    end(): string {
      return isOpen ? settle() : "";
    },
    /** Text that the model wrote but readers were not shown. */
    unshown: (): string => cut + held,
  };
}
