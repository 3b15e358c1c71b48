import type { Sql } from "../../db/client.ts";
import { escapeHtml } from "../../lib/html.ts";
import { listWords, toPlainText, toSeparatedText, WORD_SEPARATOR } from "./plain-text.ts";
import * as queries from "./queries.ts";

/** Maximum number of distinct search words that are highlighted. */
const HIGHLIGHTED_WORDS_MAX = 32;
// These delimit matches. Indexed text doesn't contain such control characters. They are replaced with tags after escaping.
const MARK_START = "\u0001";
const MARK_END = "\u0002";

/**
 * Creates the best matching excerpt of each document, as HTML with matches in `<mark>` and everything else escaped.
 * @returns the snippets by path. The snippet of a document without text is an empty string.
 */
export async function createSnippets(sql: Sql, paths: string[], query: string): Promise<Map<string, string>> {
  const words = listWords(query, HIGHLIGHTED_WORDS_MAX);
  const passages = await queries.listBestPassages(sql, paths, words);
  const texts = passages.map(({ content }) => toSeparatedText(toPlainText(content ?? "")));
  const marks = { start: MARK_START, stop: MARK_END };
  const headlines = await queries.highlightWords(sql, texts, words, marks);
  return new Map(passages.map(({ path }, index) => [path, formatHeadline(headlines[index] ?? "")]));
}

function formatHeadline(headline: string): string {
  return escapeHtml(headline.replaceAll(WORD_SEPARATOR, ""))
    .replaceAll(MARK_START, "<mark>")
    .replaceAll(MARK_END, "</mark>")
    .replaceAll("</mark><mark>", "")
    .trim();
}
