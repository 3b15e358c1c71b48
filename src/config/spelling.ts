/** Returns the Levenshtein distance between two words, or `distanceMax + 1` if it is larger than `distanceMax`. */
function computeDistance(word: string, otherWord: string, distanceMax: number): number {
  if (Math.abs(word.length - otherWord.length) > distanceMax) return distanceMax + 1;
  let previousRow = Array.from({ length: otherWord.length + 1 }, (_, index) => index);
  for (let row = 1; row <= word.length; row += 1) {
    const currentRow = [row];
    for (let column = 1; column <= otherWord.length; column += 1) {
      const replacementCost = (previousRow[column - 1] ?? 0) + (word[row - 1] === otherWord[column - 1] ? 0 : 1);
      currentRow.push(Math.min(replacementCost, (previousRow[column] ?? 0) + 1, (currentRow[column - 1] ?? 0) + 1));
    }
    if (Math.min(...currentRow) > distanceMax) return distanceMax + 1;
    previousRow = currentRow;
  }
  return previousRow[otherWord.length] ?? 0;
}

/** Finds the first word with the smallest Levenshtein distance to `word`, if the distance is at most `distanceMax`. */
export function findClosest(word: string, words: readonly string[], distanceMax: number): string | undefined {
  let best: string | undefined;
  let bestDistance = distanceMax + 1;
  for (const candidate of words) {
    const distance = computeDistance(word, candidate, bestDistance - 1);
    if (distance >= bestDistance) continue;
    bestDistance = distance;
    best = candidate;
  }
  return best;
}
