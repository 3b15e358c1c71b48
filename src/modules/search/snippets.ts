import type { Sql } from "../../db/client.ts";
import { escapeHtml } from "../../lib/html.ts";
import type { ParsedQuery } from "./parse-query.ts";
import * as queries from "./queries.ts";
import { findMarks, isUnspaced, toHighlightText } from "./words.ts";

/** UTF-16 code units before the match in a snippet. */
const CONTEXT_CHARS = 80;
/** Total UTF-16 code units of a snippet. */
const SNIPPET_CHARS = 240;
/** Maximum number of occurrences of a word that are checked. */
const OCCURRENCES_MAX = 100;
// Stored messages don't contain these control characters.
const MARK_START = "\u0001";
const MARK_STOP = "\u0002";

const WORD_CHARACTER = /[\p{L}\p{N}\p{M}]/u;

type Options = { contents: string[]; query: ParsedQuery; language: string };

/** Creates an HTML excerpt of each message around its first match. Matches are in `<mark>`, everything else is escaped. */
export async function createHitSnippets(sql: Sql, { contents, query, language }: Options): Promise<string[]> {
  if (contents.length === 0) return [];
  const includedTerms = query.flat().filter(({ kind }) => kind !== "not");
  const words = includedTerms.flatMap((term) => term.words);
  const stems = await queries.listStems(sql, language, words.join(" "));
  const phrases = includedTerms.map((term) => term.words.join(isUnspaced(term.words[0] ?? "") ? "" : " "));
  const excerpts = contents.map((content) =>
    createExcerpt(content, [phrases, words, stems, stems.map((stem) => stem.slice(0, -1))]),
  );
  const headlines = await queries.highlightHits(sql, {
    excerpts: excerpts.map(({ text }) => toHighlightText(text)),
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
 * @param wordLists lists of search words, in order of preference. The excerpt shows the first match from the first list that has a
 * match. Only matches at the start of a word count.
 */
function createExcerpt(text: string, wordLists: string[][]): Excerpt {
  const position = findMatchPosition(text.toLowerCase(), wordLists);
  const start = position <= CONTEXT_CHARS ? 0 : findExcerptStart(text, position - CONTEXT_CHARS, position);
  const endMax = start + SNIPPET_CHARS;
  const lastSpace = text.lastIndexOf(" ", endMax);
  const end =
    endMax >= text.length
      ? text.length
      : avoidSurrogateSplit(text, lastSpace > position + CONTEXT_CHARS ? lastSpace : endMax);
  return { text: text.slice(start, end), isStart: start === 0, isEnd: end === text.length };
}

function findMatchPosition(lowercaseText: string, wordLists: string[][]): number {
  for (const words of wordLists) {
    const positions = words.flatMap((word) => findWordStart(lowercaseText, word) ?? []);
    if (positions.length > 0) return Math.min(...positions);
  }
  return 0;
}

/** Finds the position of the first word in the text that begins with the search word. */
function findWordStart(lowercaseText: string, searchWord: string): number | undefined {
  if (searchWord === "") return undefined;
  const canMatchAnywhere = isUnspaced(searchWord);
  let position = lowercaseText.indexOf(searchWord);
  for (let occurrences = 0; position >= 0 && occurrences < OCCURRENCES_MAX; occurrences += 1) {
    if (canMatchAnywhere || position === 0 || !WORD_CHARACTER.test(lowercaseText[position - 1] ?? "")) return position;
    position = lowercaseText.indexOf(searchWord, position + 1);
  }
  return undefined;
}

/** Returns the position after the first space if there is one before `until`, otherwise `from`. */
function findExcerptStart(text: string, from: number, until: number): number {
  const space = text.indexOf(" ", from);
  return space >= 0 && space < until ? space + 1 : avoidSurrogateSplit(text, from);
}

/** Moves a position out of the middle of a surrogate pair. */
const avoidSurrogateSplit = (text: string, position: number): number =>
  /[\udc00-\udfff]/.test(text[position] ?? "") ? position - 1 : position;

function formatExcerpt({ text, isStart, isEnd }: Excerpt, marks: [number, number][]): string {
  let html = isStart ? "" : "… ";
  let position = 0;
  for (const [start, end] of mergeRanges(marks)) {
    html += `${escapeHtml(text.slice(position, start))}<mark>${escapeHtml(text.slice(start, end))}</mark>`;
    position = end;
  }
  html += escapeHtml(text.slice(position));
  return `${html.replaceAll(/\s+/g, " ").trim()}${isEnd ? "" : " …"}`;
}

/** Sorts the ranges and merges overlapping and adjacent ones. */
function mergeRanges(marks: [number, number][]): [number, number][] {
  const merged: [number, number][] = [];
  for (const [start, end] of marks.toSorted((a, b) => a[0] - b[0])) {
    const lastRange = merged.at(-1);
    if (lastRange && start <= lastRange[1]) lastRange[1] = Math.max(lastRange[1], end);
    else merged.push([start, end]);
  }
  return merged;
}
