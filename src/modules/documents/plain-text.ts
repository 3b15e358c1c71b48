/**
 * Converts Markdown to plain text for people and the index: one line without markup, link targets or HTML tags. Use it for
 * passages only, because its regular expressions are slow on long texts.
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

/** Separates words for Postgres where the text has no spaces. Indexed texts contain no control characters. */
export const WORD_SEPARATOR = "\u0003";

const segmenter = new Intl.Segmenter(undefined, { granularity: "word" });
const unspacedScripts =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}\u30FC]+/gu;

/**
 * Prepares a text for indexing: words and spaces only. Otherwise Postgres treats `node.js`, a path or a Chinese sentence
 * as one word, and with the locale C (as in the embedded database) every non-ASCII character as a letter. Postgres would also
 * take minutes for a text full of `<`.
 */
export function toIndexText(text: string): string {
  return separateScripts(text, " ").replaceAll(/[^\p{L}\p{N}\p{M}]+/gu, " ");
}

/** Prepares user input for `websearch_to_tsquery`: keeps operators, and turns `node.js` into a phrase. */
export function toSearchText(query: string): string {
  return separateScripts(query.normalize("NFC").replaceAll(/[“”„‟«»]/g, '"'), " ")
    .replaceAll(/(?<=[\p{L}\p{N}\p{M}])[^\p{L}\p{N}\p{M}\s"]+(?=[\p{L}\p{N}\p{M}])/gu, WORD_SEPARATOR)
    .replaceAll(/(?<![\s"]|^)-|-(?![\p{L}\p{N}\p{M}"])|[^\p{L}\p{N}\p{M}\s"\p{Cc}-]/gu, " ");
}

/** Prepares a text for highlighting, with the same words as the index. Removing the separators restores the text. */
export function toSeparatedText(text: string): string {
  return separateScripts(text, WORD_SEPARATOR).replaceAll(
    /[^\p{L}\p{N}\p{M}\s]+/gu,
    `${WORD_SEPARATOR}$&${WORD_SEPARATOR}`,
  );
}

/** The distinct words of a question, in lower case and in order, at most `wordsMax`. */
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
