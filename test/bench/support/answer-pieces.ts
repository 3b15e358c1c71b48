/** The length of each piece. All pieces differ, so that lost and reordered pieces can be detected. */
export const PIECE_CHARS = 14;

/** Parses a model's name, such as `50-20`: the number of pieces in its answer, and the interval in milliseconds. */
export function parseModelName(model: string): { pieces: number; delayMs: number } {
  const [pieces = 1, delayMs = 0] = model.split("-").map(Number);
  return { pieces, delayMs };
}

/** Returns the text of piece `n`, from 1 to 999. */
export const formatPiece = (n: number): string => `a word or ${String(n).padStart(3, "0")} `;

/** Returns the text of an answer with this many pieces. */
export const formatAnswer = (pieces: number): string =>
  Array.from({ length: pieces }, (_, index) => formatPiece(index + 1)).join("");

/**
 * Compares the received text with the expected text. Returns the number of lost pieces, and the number of misplaced or
 * repeated pieces. Unknown text counts as one misplaced piece.
 */
export function countPieceErrors(text: string, pieces: number): { lost: number; misplaced: number } {
  if (text === formatAnswer(pieces)) return { lost: 0, misplaced: 0 };
  const numbers = Array.from(text.matchAll(/a word or (\d{3}) /g), ([, n]) => Number(n));
  const lost = pieces - new Set(numbers).size;
  const misplaced = numbers.filter((n, index) => index > 0 && n <= (numbers[index - 1] ?? 0)).length;
  return { lost, misplaced: lost === 0 && misplaced === 0 ? 1 : misplaced };
}
