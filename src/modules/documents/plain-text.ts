/**
 * Converts Markdown to plain text for people and the index: one line without markup, link targets or HTML tags. Use it only for
 * passages, because its regular expressions are slow on long text.
 */
export function toPlainText(markdown: string): string {
  return markdown
    .replaceAll(/<!--.*?-->/gs, " ")
    .replaceAll(/<\/?[a-zA-Z][\w-]{0,30}(?:\s[^<>]{0,300})?\/?>/g, " ")
    .replaceAll(/!?\[([^[\]]{0,300})\]\([^()\s]{0,300}(?:\s"[^"]{0,300}")?\)/g, "$1")
    .replaceAll(/^[ \t|:-]+$/gm, " ")
    .replaceAll(/^[ \t]*(?:```+|~~~+|(?:#{1,6}|>+|[-*+])(?=[ \t]|$))/gm, " ")
    .replaceAll(/\*\*|__|~~|[`*|]/g, (mark) => (mark === "|" ? " " : ""))
    .replaceAll(/\s+/g, " ")
    .trim();
}

/** Separates words for Postgres where the text has no spaces. Indexed text has no control characters. */
export const WORD_SEPARATOR = "\u0003";

const segmenter = new Intl.Segmenter(undefined, { granularity: "word" });
const unspacedScripts =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}\u30FC]+/gu;

/**
 * Prepares text for indexing: only words and spaces remain. Otherwise, Postgres would index `node.js`, a path or a Chinese sentence as
 * one word. With the locale C (as in the embedded database), Postgres would also treat every non-ASCII character as a letter. Indexing text
 * full of `<` would take minutes.
 */
export function toIndexText(text: string): string {
  return separateScripts(text, " ").replaceAll(/[^\p{L}\p{N}\p{M}]+/gu, " ");
}

/** Prepares user input for `websearch_to_tsquery`. Keeps operators, and turns `node.js` into a phrase. */
export function toSearchText(query: string): string {
  return separateScripts(query.normalize("NFC").replaceAll(/[“”„‟«»]/g, '"'), " ")
    .replaceAll(/(?<=[\p{L}\p{N}\p{M}])[^\p{L}\p{N}\p{M}\s"]+(?=[\p{L}\p{N}\p{M}])/gu, WORD_SEPARATOR)
    .replaceAll(/(?<![\s"]|^)-|-(?![\p{L}\p{N}\p{M}"])|[^\p{L}\p{N}\p{M}\s"\p{Cc}-]/gu, " ");
}

/** Prepares text for highlighting, with the same words as in the index. Removing the separators restores the text. */
export function toSeparatedText(text: string): string {
  return separateScripts(text, WORD_SEPARATOR).replaceAll(
    /[^\p{L}\p{N}\p{M}\s]+/gu,
    `${WORD_SEPARATOR}$&${WORD_SEPARATOR}`,
  );
}

/** Lists at most `wordsMax` distinct words of a question, in order and in lower case. */
export function listWords(question: string, wordsMax: number): string[] {
  const words = toIndexText(question.normalize("NFC").toLowerCase()).split(" ");
  return [...new Set(words)].filter((word) => word !== "").slice(0, wordsMax);
}

function separateScripts(text: string, separator: string): string {
  return text.replaceAll(unspacedScripts, (run) => {
    const words = [...segmenter.segment(run)].map(({ segment }) => segment);
    return `${separator}${words.join(separator)}${separator}`;
  });
}
