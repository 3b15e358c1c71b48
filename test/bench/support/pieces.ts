/** The length of each piece. All differ, so that lost and reordered ones are detected in a text. */
export const PIECE_CHARS = 14;

/** Parses a model's name like `50-20`: the number of pieces in its answer, and the interval between them. */
export function readModel(model: string): { pieces: number; delayMs: number } {
  const [pieces = 1, delayMs = 0] = model.split("-").map(Number);
  return { pieces, delayMs };
}

/** The text of piece `n`, from 1 to 999. */
export const pieceText = (n: number): string => `a word or ${String(n).padStart(3, "0")} `;

/** The text of an answer with this many pieces. */
export const answerText = (pieces: number): string =>
  Array.from({ length: pieces }, (_, index) => pieceText(index + 1)).join("");

/**
 * Compares a text with the one that was sent.
 * @returns the number of missing pieces, and of misplaced or repeated ones; other text counts as one of these.
 */
export function findDamage(text: string, pieces: number): { lost: number; misplaced: number } {
  if (text === answerText(pieces)) return { lost: 0, misplaced: 0 };
  const numbers = Array.from(text.matchAll(/a word or (\d{3}) /g), ([, n]) => Number(n));
  const lost = pieces - new Set(numbers).size;
  const misplaced = numbers.filter((n, index) => index > 0 && n <= (numbers[index - 1] ?? 0)).length;
  return { lost, misplaced: lost === 0 && misplaced === 0 ? 1 : misplaced };
}
