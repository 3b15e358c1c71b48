import { RE2JS } from "re2js";

/** Maximum length and total repetitions of a pattern, which determine its compiled size. Larger patterns aren't matched. */
const PATTERN_CHARS_MAX = 1_000;
const REPETITIONS_MAX = 1_000;
/** Maximum number of Unicode classes (`\p{L}`) per pattern. Each has hundreds of ranges and takes a long time to compile. */
const UNICODE_CLASSES_MAX = 20;

/** A pattern that matches in linear time. */
export type LinearPattern = {
  /** The number of instructions, which is the cost per character. */
  size: number;
  test(text: string): boolean;
};

/** Whether a string is a regular expression in JSON Schema's dialect. The pattern is only parsed, never matched. */
export function isPattern(source: string): boolean {
  try {
    new RegExp(source, "u");
    return true;
  } catch {
    return false;
  }
}

/**
 * Compiles a pattern with RE2, which doesn't backtrack. JavaScript's engine can take exponential time.
 * @returns null for patterns that RE2 doesn't support (lookaround, backreferences) or that would need too much memory.
 */
export function compileLinearPattern(source: string): LinearPattern | null {
  // RE2JS would treat a named backreference as literal letters.
  if (source.length > PATTERN_CHARS_MAX || source.includes("\\k<") || countRepetitions(source) > REPETITIONS_MAX)
    return null;
  // In case-insensitive mode, each range of a class is compiled again for each of its letters.
  if (countClasses(source) > UNICODE_CLASSES_MAX || /\(\?[a-z]*i/.test(source)) return null;
  try {
    const compiled = RE2JS.compile(RE2JS.translateRegExp(source));
    return { size: compiled.programSize(), test: (text) => compiled.test(text) };
  } catch {
    return null;
  }
}

const countClasses = (source: string): number => source.match(/\\p/gi)?.length ?? 0;

function countRepetitions(source: string): number {
  let count = 0;
  for (const [, min = "0", max = ""] of source.matchAll(/\{(\d+),?(\d*)\}/g))
    count += Math.max(Number(min), Number(max));
  return count;
}

/** Matches an escaped character, a class, a repetition count, or any other character. */
const piecePattern = /\\[pux]\{[^}]*\}|\\.|\[(?:\\.|[^\]\\])*\]|\{(\d+),?(\d*)\}|./gis;

/**
 * Estimates the compiled size of a pattern: the number of its characters and classes if all repetitions are written out. Nested
 * repetitions are multiplied. The number of instructions and the compile time are proportional to it.
 */
export function estimatePatternSize(source: string): number {
  const outerSizes: number[] = [];
  let size = 0;
  let lastPieceSize = 0;
  for (const [piece, min, max] of source.matchAll(piecePattern)) {
    if (piece === "(") {
      outerSizes.push(size);
      size = 0;
      lastPieceSize = 0;
    } else if (min !== undefined) {
      const times = Math.max(Number(min), Number(max), 1);
      size += lastPieceSize * (times - 1);
      lastPieceSize *= times;
    } else if (piece === ")") {
      lastPieceSize = size + 1;
      size = (outerSizes.pop() ?? 0) + lastPieceSize;
    } else {
      lastPieceSize = 1;
      size += 1;
    }
  }
  return size;
}
