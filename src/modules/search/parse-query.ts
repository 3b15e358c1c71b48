import { createInvalid } from "../../lib/problem.ts";
import { isUnspaced, splitWords } from "./words.ts";

/** Terms of a search: words, phrases, beginnings and exclusions. */
const TERMS_MAX = 32;

/** One thing to look for. `words` of a phrase stand side by side in a text; those of a `prefix` are one beginning. */
type Term = { kind: "words" | "prefix" | "not"; words: string[] };
/** A message is found if it has all terms of a branch. */
export type ParsedQuery = Term[][];

// A phrase, whose end may be missing, or anything else up to the next blank or quote; `-` before it excludes it.
const token = /(-?)(?:"([^"]*)"?|([^\s"]+))/g;
const quotes = /[“”„‟«»「」]/g;

/**
 * Reads what a person typed into a search field: words, "phrases", `begin*`, `-excluded`, and `or` between alternatives.
 * @throws Problem `invalid` if there is no word to look for, or too many.
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
  // Of scripts without blanks, every part of a text is found anyway.
  if (!mayBegin || !text.endsWith("*") || isUnspaced(last)) return [{ kind: "words", words }];
  const before = words.slice(0, -1);
  const begin: Term = { kind: "prefix", words: [last] };
  return before.length === 0 ? [begin] : [{ kind: "words", words: before }, begin];
}

function check(branches: ParsedQuery): void {
  const terms = branches.flat();
  const words = terms.reduce((sum, term) => sum + term.words.length, 0);
  if (terms.length === 0) throw createInvalid("#/query/q", "q has no word to search for.");
  if (branches.some((branch) => branch.every(({ kind }) => kind === "not")))
    throw createInvalid("#/query/q", "q only excludes words; name one to search for, in each alternative of `or`.");
  if (terms.length > TERMS_MAX || words > WORDS_MAX)
    throw createInvalid(
      "#/query/q",
      `q has too many words; at most ${TERMS_MAX}, and ${WORDS_MAX} with those of phrases.`,
    );
}

/** Words of a search, with those inside of phrases, of which each character of a script without blanks is one. */
const WORDS_MAX = 100;
