import { createInvalid } from "../../lib/problem.ts";
import { isUnspaced, splitWords } from "./words.ts";

/** Terms of a search: words, phrases, prefixes and exclusions. */
const TERMS_MAX = 32;

/** One search term. The `words` of a phrase must be adjacent in a text; those of a `prefix` form one prefix. */
type Term = { kind: "words" | "prefix" | "not"; words: string[] };
/** A message matches if it contains all terms of a branch. */
export type ParsedQuery = Term[][];

// A phrase, possibly unclosed, or anything else up to the next space or quote; `-` before it excludes it.
const token = /(-?)(?:"([^"]*)"?|([^\s"]+))/g;
const quotes = /[“”„‟«»「」]/g;

/**
 * Parses a search query: words, "phrases", `begin*`, `-excluded`, and `or` between alternatives.
 * @throws Problem `invalid` if it has no search word, or too many.
 */
export function parseQuery(typed: string): ParsedQuery {
  const branches: ParsedQuery = [[]];
  for (const [, minus, phrase, word = ""] of typed.replaceAll(quotes, '"').matchAll(token)) {
    if (minus === "" && phrase === undefined && word.toLowerCase() === "or") branches.push([]);
    else branches.at(-1)?.push(...readTerms(phrase ?? word, minus !== "", phrase === undefined));
  }
  const parsed = branches.filter((terms) => terms.length > 0);
  check(parsed);
  return parsed;
}

function readTerms(text: string, isExcluded: boolean, mayBegin: boolean): Term[] {
  const words = splitWords(text);
  if (words.length === 0) return [];
  if (isExcluded) return [{ kind: "not", words }];
  const last = words.at(-1) ?? "";
  // In scripts without spaces, every part of a text matches anyway.
  if (!mayBegin || !text.endsWith("*") || isUnspaced(last)) return [{ kind: "words", words }];
  const before = words.slice(0, -1);
  const begin: Term = { kind: "prefix", words: [last] };
  return before.length === 0 ? [begin] : [{ kind: "words", words: before }, begin];
}

function check(branches: ParsedQuery): void {
  const terms = branches.flat();
  const words = terms.reduce((sum, term) => sum + term.words.length, 0);
  if (terms.length === 0) throw createInvalid("#/query/q", "q contains no word to search for.");
  if (branches.some((branch) => branch.every(({ kind }) => kind === "not")))
    throw createInvalid("#/query/q", "q only excludes words. Add a word to search for to each alternative of `or`.");
  if (terms.length > TERMS_MAX || words > WORDS_MAX)
    throw createInvalid(
      "#/query/q",
      `q has too many words: at most ${TERMS_MAX} terms, and ${WORDS_MAX} words including those in phrases.`,
    );
}

/** Counts words, including those in phrases; each character of a script without spaces is one. */
const WORDS_MAX = 100;
