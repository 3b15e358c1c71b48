import type { Sql } from "../../db/client.ts";
import { escapeHtml } from "../../lib/html.ts";
import type { ParsedQuery } from "./parse-query.ts";
import * as queries from "./queries.ts";
import { findMarks, isUnspaced, toHighlightText } from "./words.ts";

/** UTF-16 units of a snippet before the match, and in total. */
const BEFORE_CHARS = 80;
const SNIPPET_CHARS = 240;
/** Occurrences of one word that are checked. */
const ATTEMPTS_MAX = 100;
// Control characters, which stored texts don't contain.
const MARK_START = "\u0001";
const MARK_STOP = "\u0002";

const wordCharacter = /[\p{L}\p{N}\p{M}]/u;

type Options = { texts: string[]; query: ParsedQuery; language: string };

/** For each text an excerpt around the match, as HTML: matches in `<mark>`, everything else escaped. */
export async function createHitSnippets(sql: Sql, { texts, query, language }: Options): Promise<string[]> {
  if (texts.length === 0) return [];
  const sought = query.flat().filter(({ kind }) => kind !== "not");
  const words = sought.flatMap((term) => term.words);
  const stems = await queries.listStems(sql, language, words.join(" "));
  const phrases = sought.map((term) => term.words.join(isUnspaced(term.words[0] ?? "") ? "" : " "));
  const pieces = texts.map((text) =>
    createExcerpt(text, [phrases, words, stems, stems.map((stem) => stem.slice(0, -1))]),
  );
  const headlines = await queries.highlightHits(sql, {
    texts: pieces.map(({ text }) => toHighlightText(text)),
    query,
    language,
    marks: [MARK_START, MARK_STOP],
  });
  return pieces.map((piece, index) => {
    const { exact = "", stems: stemmed = "" } = headlines[index] ?? {};
    const marks = [...findMarks(exact, MARK_START, MARK_STOP), ...findMarks(stemmed, MARK_START, MARK_STOP)];
    return formatPiece(piece, marks);
  });
}

type Excerpt = { text: string; isStart: boolean; isEnd: boolean };

/** @param needles lists in order of preference: the first list with a needle that begins a word decides; its first such position counts. */
function createExcerpt(text: string, needles: string[][]): Excerpt {
  const position = findPosition(text.toLowerCase(), needles);
  const start = position <= BEFORE_CHARS ? 0 : moveToBlank(text, position - BEFORE_CHARS, position);
  const rawEnd = start + SNIPPET_CHARS;
  const lastBlank = text.lastIndexOf(" ", rawEnd);
  const end =
    rawEnd >= text.length ? text.length : keepPair(text, lastBlank > position + BEFORE_CHARS ? lastBlank : rawEnd);
  return { text: text.slice(start, end), isStart: start === 0, isEnd: end === text.length };
}

function findPosition(lower: string, lists: string[][]): number {
  for (const needles of lists) {
    const positions = needles.flatMap((needle) => findWordStart(lower, needle) ?? []);
    if (positions.length > 0) return Math.min(...positions);
  }
  return 0;
}

/** The start of the first word that begins with the needle. */
function findWordStart(lower: string, needle: string): number | undefined {
  if (needle === "") return undefined;
  const isAnywhere = isUnspaced(needle);
  let at = lower.indexOf(needle);
  for (let attempts = 0; at >= 0 && attempts < ATTEMPTS_MAX; attempts += 1) {
    if (isAnywhere || at === 0 || !wordCharacter.test(lower[at - 1] ?? "")) return at;
    at = lower.indexOf(needle, at + 1);
  }
  return undefined;
}

/** After the first space, if there is one before the word. */
function moveToBlank(text: string, from: number, until: number): number {
  const blank = text.indexOf(" ", from);
  return blank >= 0 && blank < until ? blank + 1 : keepPair(text, from);
}

/** A position that isn't inside a surrogate pair. */
const keepPair = (text: string, at: number): number => (/[\udc00-\udfff]/.test(text[at] ?? "") ? at - 1 : at);

function formatPiece({ text, isStart, isEnd }: Excerpt, marks: [number, number][]): string {
  let html = isStart ? "" : "… ";
  let at = 0;
  for (const [from, to] of joinMarks(marks)) {
    html += `${escapeHtml(text.slice(at, from))}<mark>${escapeHtml(text.slice(from, to))}</mark>`;
    at = to;
  }
  html += escapeHtml(text.slice(at));
  return `${html.replaceAll(/\s+/g, " ").trim()}${isEnd ? "" : " …"}`;
}

/** Sorted, with overlapping and adjacent ranges merged. */
function joinMarks(marks: [number, number][]): [number, number][] {
  const joined: [number, number][] = [];
  for (const [from, to] of marks.toSorted((a, b) => a[0] - b[0])) {
    const last = joined.at(-1);
    if (last && from <= last[1]) last[1] = Math.max(last[1], to);
    else joined.push([from, to]);
  }
  return joined;
}
