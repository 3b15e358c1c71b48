import type { Sql } from "../../db/client.ts";
import { escapeHtml } from "../../lib/html.ts";
import { listWords, toPlainText, toSeparatedText, WORD_SEPARATOR } from "./plain-text.ts";
import * as queries from "./queries.ts";

/** Maximum distinct search words that are highlighted. */
const WORDS_MAX = 32;
// Control characters, which indexed texts don't contain. They are replaced with tags after escaping.
const MARK_START = "\u0001";
const MARK_STOP = "\u0002";

/**
 * Creates each document's excerpt that best matches a search, as HTML: matches in `<mark>`, everything else escaped.
 * @returns the snippets by path; an empty string for a document without text.
 */
export async function createSnippets(sql: Sql, paths: string[], query: string): Promise<Map<string, string>> {
  const words = listWords(query, WORDS_MAX);
  const passages = await queries.listBestPassages(sql, paths, words);
  const texts = passages.map(({ content }) => toSeparatedText(toPlainText(content ?? "")));
  const marks = { start: MARK_START, stop: MARK_STOP };
  const headlines = await queries.highlight(sql, texts, words, marks);
  return new Map(passages.map(({ path }, index) => [path, formatHeadline(headlines[index] ?? "")]));
}

function formatHeadline(headline: string): string {
  return escapeHtml(headline.replaceAll(WORD_SEPARATOR, ""))
    .replaceAll(MARK_START, "<mark>")
    .replaceAll(MARK_STOP, "</mark>")
    .replaceAll("</mark><mark>", "")
    .trim();
}
