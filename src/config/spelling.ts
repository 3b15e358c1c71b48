/** Returns the edit distance (added, removed and replaced letters) between two words; `max + 1` if it is larger than `max`. */
function countEdits(one: string, other: string, max: number): number {
  if (Math.abs(one.length - other.length) > max) return max + 1;
  let before = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let row = 1; row <= one.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= other.length; column += 1) {
      const replaced = (before[column - 1] ?? 0) + (one[row - 1] === other[column - 1] ? 0 : 1);
      current.push(Math.min(replaced, (before[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1));
    }
    if (Math.min(...current) > max) return max + 1;
    before = current;
  }
  return before[other.length] ?? 0;
}

/** Finds the word with the smallest edit distance, if that is at most `max`. The first one wins ties. */
export function findClosest(word: string, words: readonly string[], max: number): string | undefined {
  let best: string | undefined;
  let edits = max + 1;
  for (const candidate of words) {
    const count = countEdits(word, candidate, edits - 1);
    if (count >= edits) continue;
    edits = count;
    best = candidate;
  }
  return best;
}
