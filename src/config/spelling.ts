/** Returns the Levenshtein distance between two words, or `max + 1` if it is larger than `max`. */
function computeDistance(a: string, b: string, max: number): number {
  if (Math.abs(a.length - b.length) > max) return max + 1;
  let previousRow = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let row = 1; row <= a.length; row += 1) {
    const currentRow = [row];
    for (let column = 1; column <= b.length; column += 1) {
      const replacementCost = (previousRow[column - 1] ?? 0) + (a[row - 1] === b[column - 1] ? 0 : 1);
      currentRow.push(Math.min(replacementCost, (previousRow[column] ?? 0) + 1, (currentRow[column - 1] ?? 0) + 1));
    }
    if (Math.min(...currentRow) > max) return max + 1;
    previousRow = currentRow;
  }
  return previousRow[b.length] ?? 0;
}

/** Finds the first word with the smallest Levenshtein distance, if the distance is at most `max`. */
export function findClosest(word: string, words: readonly string[], max: number): string | undefined {
  let best: string | undefined;
  let bestDistance = max + 1;
  for (const candidate of words) {
    const distance = computeDistance(word, candidate, bestDistance - 1);
    if (distance >= bestDistance) continue;
    bestDistance = distance;
    best = candidate;
  }
  return best;
}
