import { RE2JS } from "re2js";

/** Longer patterns, and those that repeat more often in all, are not matched: what they are compiled to grows with both. */
const PATTERN_CHARS_MAX = 1_000;
const REPETITIONS_MAX = 1_000;
/** Classes of Unicode (`\p{L}`) in one pattern. Each is a list of hundreds of ranges, which takes long to compile. */
const UNICODE_CLASSES_MAX = 20;

/** A pattern whose matching takes time in proportion to the text, whatever the text is. */
export type LinearPattern = {
  /** What one character costs: the number of its instructions. */
  size: number;
  test(text: string): boolean;
};

/** Whether a text is a regular expression as JSON Schema wants them. It is only read, never matched. */
export function isPattern(source: string): boolean {
  try {
    new RegExp(source, "u");
    return true;
  } catch {
    return false;
  }
}

/**
 * Compiles a pattern for RE2, which never goes back in the text. JavaScript's own engine does, as often as there are ways through
 * the pattern: for a short one it took 0.6 s here, and then gave up with a wrong answer.
 * @returns null for what no such engine can do (looking ahead or behind, references to groups), or would take too much memory for.
 */
export function compileLinearPattern(source: string): LinearPattern | null {
  // RE2JS reads a reference by name as its letters.
  if (source.length > PATTERN_CHARS_MAX || source.includes("\\k<") || countRepetitions(source) > REPETITIONS_MAX)
    return null;
  // Without regard to case, each range of a class is compiled once more for each of its letters.
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
  for (const [, least = "0", most = ""] of source.matchAll(/\{(\d+),?(\d*)\}/g))
    count += Math.max(Number(least), Number(most));
  return count;
}

/** An escaped character, a class, how often the one before is repeated, or any other character. */
const pieces = /\\[pux]\{[^}]*\}|\\.|\[(?:\\.|[^\]\\])*\]|\{(\d+),?(\d*)\}|./gis;

/**
 * Characters and classes of a pattern with its repetitions written out; those in each other are multiplied. Its instructions
 * are about as many, and to compile it takes as long.
 */
export function estimateSize(source: string): number {
  const outer: number[] = [];
  let size = 0;
  let last = 0;
  for (const [piece, least, most] of source.matchAll(pieces)) {
    if (piece === "(") {
      outer.push(size);
      size = 0;
      last = 0;
    } else if (least !== undefined) {
      const times = Math.max(Number(least), Number(most), 1);
      size += last * (times - 1);
      last *= times;
    } else if (piece === ")") {
      last = size + 1;
      size = (outer.pop() ?? 0) + last;
    } else {
      last = 1;
      size += 1;
    }
  }
  return size;
}
