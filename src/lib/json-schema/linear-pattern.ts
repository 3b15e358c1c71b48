import { RE2JS } from "re2js";

/** Limits on length and on total repetitions, which determine the compiled size; patterns beyond them are not matched. */
const PATTERN_CHARS_MAX = 1_000;
const REPETITIONS_MAX = 1_000;

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
