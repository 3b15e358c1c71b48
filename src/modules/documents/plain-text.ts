/**
 * The words of a piece of markdown, for people and for the index: no marks, no link targets, no HTML tags, one line.
 * Meant for passages; its expressions are only safe on short texts.
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

/** Stands where Postgres shall see two words; texts from files hold no control characters. */
export const WORD_SEAM = "\u0003";

const segmenter = new Intl.Segmenter(undefined, { granularity: "word" });
const unspacedScripts =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}\u30FC]+/gu;

/**
 * A text as Postgres is to index it: words and blanks, nothing else. Left to itself Postgres takes `node.js` or a path
 * for one word, a Chinese sentence too, and in a database whose language is C (as the embedded one's is) every sign
 * beyond ASCII for a letter; on a text full of `<` it takes minutes.
 */
export function toIndexText(text: string): string {
  return separateScripts(text, " ").replaceAll(/[^\p{L}\p{N}\p{M}]+/gu, " ");
}

/** What a person typed, as `websearch_to_tsquery` is to read it: operators stay, `node.js` becomes a phrase. */
export function toSearchText(typed: string): string {
  return separateScripts(typed.normalize("NFC").replaceAll(/[“”„‟«»]/g, '"'), " ")
    .replaceAll(/(?<=[\p{L}\p{N}\p{M}])[^\p{L}\p{N}\p{M}\s"]+(?=[\p{L}\p{N}\p{M}])/gu, WORD_SEAM)
    .replaceAll(/(?<![\s"]|^)-|-(?![\p{L}\p{N}\p{M}"])|[^\p{L}\p{N}\p{M}\s"\p{Cc}-]/gu, " ");
}

/** A text as Postgres is to highlight it, with the same words as the index; without its seams it is as it was. */
export function toSeamedText(text: string): string {
  return separateScripts(text, WORD_SEAM).replaceAll(/[^\p{L}\p{N}\p{M}\s]+/gu, `${WORD_SEAM}$&${WORD_SEAM}`);
}

/** The different words of a question, in lower case and in their order, at most `wordsMax`. */
export function listWords(question: string, wordsMax: number): string[] {
  const words = toIndexText(question.normalize("NFC").toLowerCase()).split(" ");
  return [...new Set(words)].filter((word) => word !== "").slice(0, wordsMax);
}

function separateScripts(text: string, seam: string): string {
  return text.replaceAll(unspacedScripts, (run) => {
    const words = [...segmenter.segment(run)].map(({ segment }) => segment);
    return `${seam}${words.join(seam)}${seam}`;
  });
}
