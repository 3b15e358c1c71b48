import type { Sql } from "../../db/client.ts";
import { escapeHtml } from "../../lib/html.ts";
import type { ParsedQuery } from "./parse-query.ts";
import * as queries from "./queries.ts";
import { findMarks, isUnspaced, toHighlightText } from "./words.ts";

/** UTF-16 code units before the match in a snippet. */
const CONTEXT_CHARS = 80;
/** Total UTF-16 code units of a snippet. */
const SNIPPET_CHARS = 240;
/** Maximum occurrences of a word that are checked. */
const OCCURRENCES_MAX = 100;
// Stored texts don't contain these control characters.
const MARK_START = "\u0001";
const MARK_STOP = "\u0002";

const WORD_CHARACTER = /[\p{L}\p{N}\p{M}]/u;

type Options = { texts: string[]; query: ParsedQuery; language: string };

/** Creates an HTML excerpt of each text around its first match. Matches are in `<mark>`, everything else is escaped. */
export async function createHitSnippets(sql: Sql, { texts, query, language }: Options): Promise<string[]> {
  if (texts.length === 0) return [];
  const includedTerms = query.flat().filter(({ kind }) => kind !== "not");
  const words = includedTerms.flatMap((term) => term.words);
  const stems = await queries.listStems(sql, language, words.join(" "));
  const phrases = includedTerms.map((term) => term.words.join(isUnspaced(term.words[0] ?? "") ? "" : " "));
  const excerpts = texts.map((text) =>
    createExcerpt(text, [phrases, words, stems, stems.map((stem) => stem.slice(0, -1))]),
  );
  const headlines = await queries.highlightHits(sql, {
    texts: excerpts.map(({ text }) => toHighlightText(text)),
    query,
    language,
    marks: [MARK_START, MARK_STOP],
  });
  return excerpts.map((excerpt, index) => {
    const { exact = "", stems: stemmed = "" } = headlines[index] ?? {};
    const marks = [...findMarks(exact, MARK_START, MARK_STOP), ...findMarks(stemmed, MARK_START, MARK_STOP)];
    return formatExcerpt(excerpt, marks);
  });
}

type Excerpt = { text: string; isStart: boolean; isEnd: boolean };

/**
 * Creates an excerpt around a match.
 * @param needles lists of search words, in order of preference. The excerpt shows the first match from the first list that has a
 * match. Only matches at the start of a word count.
 */
function createExcerpt(text: string, needles: string[][]): Excerpt {
  const position = findPosition(text.toLowerCase(), needles);
  const start = position <= CONTEXT_CHARS ? 0 : findExcerptStart(text, position - CONTEXT_CHARS, position);
  const endMax = start + SNIPPET_CHARS;
  const lastSpace = text.lastIndexOf(" ", endMax);
  const end =
    endMax >= text.length
      ? text.length
      : avoidSurrogateSplit(text, lastSpace > position + CONTEXT_CHARS ? lastSpace : endMax);
  return { text: text.slice(start, end), isStart: start === 0, isEnd: end === text.length };
}

function findPosition(lower: string, lists: string[][]): number {
  for (const needles of lists) {
    const positions = needles.flatMap((needle) => findWordStart(lower, needle) ?? []);
    if (positions.length > 0) return Math.min(...positions);
  }
  return 0;
}

/** Finds the first word that begins with the needle. */
function findWordStart(lower: string, needle: string): number | undefined {
  if (needle === "") return undefined;
  const canMatchAnywhere = isUnspaced(needle);
  let at = lower.indexOf(needle);
  for (let occurrences = 0; at >= 0 && occurrences < OCCURRENCES_MAX; occurrences += 1) {
    if (canMatchAnywhere || at === 0 || !WORD_CHARACTER.test(lower[at - 1] ?? "")) return at;
    at = lower.indexOf(needle, at + 1);
  }
  return undefined;
}

/** Returns the position after the first space if there is one before `until`, otherwise `from`. */
function findExcerptStart(text: string, from: number, until: number): number {
  const space = text.indexOf(" ", from);
  return space >= 0 && space < until ? space + 1 : avoidSurrogateSplit(text, from);
}

/** Moves a position out of the middle of a surrogate pair. */
const avoidSurrogateSplit = (text: string, at: number): number =>
  /[\udc00-\udfff]/.test(text[at] ?? "") ? at - 1 : at;

function formatExcerpt({ text, isStart, isEnd }: Excerpt, marks: [number, number][]): string {
  let html = isStart ? "" : "… ";
  let at = 0;
  for (const [from, to] of mergeRanges(marks)) {
    html += `${escapeHtml(text.slice(at, from))}<mark>${escapeHtml(text.slice(from, to))}</mark>`;
    at = to;
  }
  html += escapeHtml(text.slice(at));
  return `${html.replaceAll(/\s+/g, " ").trim()}${isEnd ? "" : " …"}`;
}

/** Sorts the ranges and merges overlapping and adjacent ones. */
function mergeRanges(marks: [number, number][]): [number, number][] {
  const merged: [number, number][] = [];
  for (const [from, to] of marks.toSorted((a, b) => a[0] - b[0])) {
    const last = merged.at(-1);
    if (last && from <= last[1]) last[1] = Math.max(last[1], to);
    else merged.push([from, to]);
  }
  return merged;
}
