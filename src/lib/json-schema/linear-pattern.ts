import { RE2JS } from "re2js";

/** Limits on length and on total repetitions, which determine the compiled size; patterns beyond them are not matched. */
const PATTERN_CHARS_MAX = 1_000;
const REPETITIONS_MAX = 1_000;
/** Classes of Unicode (`\p{L}`) in one pattern. Each is a list of hundreds of ranges, which takes long to compile. */
const UNICODE_CLASSES_MAX = 20;

/** A pattern that matches in linear time. */
export type LinearPattern = {
  /** The cost per character: its number of instructions. */
  size: number;
  test(text: string): boolean;
};

/** Whether a text is a regular expression in JSON Schema's dialect. The pattern is only parsed, never matched. */
export function isPattern(source: string): boolean {
  try {
    new RegExp(source, "u");
    return true;
  } catch {
    return false;
  }
}

/**
 * Compiles a pattern for RE2, which doesn't backtrack. JavaScript's engine does, in exponential time: for one short pattern it
 * took 0.6 s here, and then returned a wrong result.
 * @returns null for patterns that RE2 can't match (lookaround, backreferences), or that would need too much memory.
 */
export function compileLinearPattern(source: string): LinearPattern | null {
  // RE2JS reads a named backreference as literal letters.
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
