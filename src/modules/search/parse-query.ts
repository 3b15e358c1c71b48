import { createInvalidProblem } from "../../lib/problem.ts";
import { isUnspaced, splitWords } from "./words.ts";

/** Maximum number of terms in a query: words, phrases, prefixes and exclusions. */
const TERMS_MAX = 32;

/**
 * A search term. The words of a `words` term must occur next to each other in a message. A `prefix` has a single word, with which a
 * word in the message must start. The words of a `not` term must not occur.
 */
type Term = { kind: "words" | "prefix" | "not"; words: string[] };
/** Alternatives, separated by `or`. A message matches if it matches all terms of an alternative. */
export type ParsedQuery = Term[][];

// Matches a phrase, even without a closing quote, or a word, which ends at the next space or quote. A leading `-` excludes it.
const TOKEN = /(-?)(?:"([^"]*)"?|([^\s"]+))/g;
const QUOTES = /[“”„‟«»「」]/g;

/**
 * Parses a search query: words, "phrases", `prefix*`, `-excluded`, and `or` between alternatives.
 * @throws Problem `invalid` if it has no word to search for, or too many words.
 */
export function parseQuery(input: string): ParsedQuery {
  const alternatives: ParsedQuery = [[]];
  for (const [, minus, phrase, word = ""] of input.replaceAll(QUOTES, '"').matchAll(TOKEN)) {
    if (minus === "" && phrase === undefined && word.toLowerCase() === "or") alternatives.push([]);
    else alternatives.at(-1)?.push(...parseTerms(phrase ?? word, minus !== "", phrase === undefined));
  }
  const nonEmptyAlternatives = alternatives.filter((terms) => terms.length > 0);
  checkTerms(nonEmptyAlternatives);
  return nonEmptyAlternatives;
}

function parseTerms(text: string, isExcluded: boolean, allowPrefix: boolean): Term[] {
  const words = splitWords(text);
  if (words.length === 0) return [];
  if (isExcluded) return [{ kind: "not", words }];
  const lastWord = words.at(-1) ?? "";
  // In scripts without spaces, each character is a word, so a prefix has no effect.
  if (!allowPrefix || !text.endsWith("*") || isUnspaced(lastWord)) return [{ kind: "words", words }];
  const otherWords = words.slice(0, -1);
  const prefix: Term = { kind: "prefix", words: [lastWord] };
  return otherWords.length === 0 ? [prefix] : [{ kind: "words", words: otherWords }, prefix];
}

function checkTerms(alternatives: ParsedQuery): void {
  const terms = alternatives.flat();
  const words = terms.reduce((sum, term) => sum + term.words.length, 0);
  if (terms.length === 0) throw createInvalidProblem("#/query/q", "q contains no word to search for.");
  if (alternatives.some((alternative) => alternative.every(({ kind }) => kind === "not")))
    throw createInvalidProblem(
      "#/query/q",
      "q only excludes words. Add a word to search for to each alternative of `or`.",
    );
  if (terms.length > TERMS_MAX || words > WORDS_MAX)
    throw createInvalidProblem(
      "#/query/q",
      `q has too many words: at most ${TERMS_MAX} terms, and ${WORDS_MAX} words including those in phrases.`,
    );
}

/** Maximum number of words, including those in phrases. In scripts without spaces, each character counts as a word. */
const WORDS_MAX = 100;
