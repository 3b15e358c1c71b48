import { RE2JS } from "re2js";

/** Longer patterns, and those that repeat more often in all, are not matched: what they are compiled to grows with both. */
const PATTERN_CHARS_MAX = 1_000;
const REPETITIONS_MAX = 1_000;

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
  try {
    const compiled = RE2JS.compile(RE2JS.translateRegExp(source));
    return { size: compiled.programSize(), test: (text) => compiled.test(text) };
  } catch {
    return null;
  }
}

function countRepetitions(source: string): number {
  let count = 0;
  for (const [, least = "0", most = ""] of source.matchAll(/\{(\d+),?(\d*)\}/g))
    count += Math.max(Number(least), Number(most));
  return count;
}
