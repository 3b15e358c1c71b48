/** How far back a repetition of the text so far is looked for, in UTF-16 units. */
const OVERLAP_LENGTH_MAX = 4_000;

/**
 * The shortest repetition that is cut. Shorter ones may be meant: "1, 1, 2", "very, very".
 */
export const OVERLAP_LENGTH_MIN = 10;

/**
 * Joins a continuation to the text before it. Models that are asked to go on often repeat the last sentence first, or
 * all of it; that repetition is cut, so that the reader sees one text. While the beginning of the continuation may still
 * be a repetition it is held back: by a few words at most, unless it really is one.
 */
export function createOverlapTrimmer(before: string) {
  const tail = before.slice(-OVERLAP_LENGTH_MAX);
  let held = "";
  let cut = "";
  let isOpen = tail !== "";

  /** The length of the beginning of `held` that the text before ends with. */
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
    /** What of the continuation may be shown now. */
    push(text: string): string {
      if (!isOpen) return text;
      held += text;
      // Somewhere in the tail the held text occurs whole: it may yet reach the tail's end.
      return tail.includes(held) ? "" : settle();
    },
    /** What was held back, at the end of the continuation. */
    end(): string {
      return isOpen ? settle() : "";
    },
    /** What the model wrote and nobody was shown. */
    unshown: (): string => cut + held,
  };
}
