/** Of each piece: as they differ, and are of one length, lost and reordered ones are found in a text. */
export const PIECE_CHARS = 14;

/** What a model's name says, as in `50-20`: how many pieces it answers with, and the time between two of them. */
export function readModel(model: string): { pieces: number; delayMs: number } {
  const [pieces = 1, delayMs = 0] = model.split("-").map(Number);
  return { pieces, delayMs };
}

/** The text of piece `n`, from 1 to 999. */
export const pieceText = (n: number): string => `a word or ${String(n).padStart(3, "0")} `;

/** The text of an answer of so many pieces. */
export const answerText = (pieces: number): string =>
  Array.from({ length: pieces }, (_, index) => pieceText(index + 1)).join("");

/**
 * Compares a text with what was sent.
 * @returns how many pieces are missing, and how many stand in the wrong place or twice; other text counts as one of these.
 */
export function findDamage(text: string, pieces: number): { lost: number; misplaced: number } {
  if (text === answerText(pieces)) return { lost: 0, misplaced: 0 };
  const numbers = Array.from(text.matchAll(/a word or (\d{3}) /g), ([, n]) => Number(n));
  const lost = pieces - new Set(numbers).size;
  const misplaced = numbers.filter((n, index) => index > 0 && n <= (numbers[index - 1] ?? 0)).length;
  return { lost, misplaced: lost === 0 && misplaced === 0 ? 1 : misplaced };
}
