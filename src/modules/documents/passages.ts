/** Maximum length of a passage, in UTF-16 units: a few paragraphs, so that several passages fit in a model's prompt. */
export const PASSAGE_CHARS_MAX = 1_500;

export type Passage = {
  /** The heading of the passage's section; null before the first heading. */
  heading: string | null;
  /** Markdown, without the heading. */
  content: string;
};

/** Splits a section into passages, between paragraphs where possible. */
export function createPassages(heading: string | null, lines: string[]): Passage[] {
  const passages: Passage[] = [];
  let content = "";
  for (const piece of splitParagraphs(lines).flatMap(splitParagraph)) {
    const joined = content === "" ? piece : `${content}\n\n${piece}`;
    if (joined.length <= PASSAGE_CHARS_MAX) {
      content = joined;
      continue;
    }
    passages.push({ heading, content });
    content = piece;
  }
  if (content !== "") passages.push({ heading, content });
  return passages;
}

/** Splits at blank lines, except inside code blocks. */
function splitParagraphs(lines: string[]): string[] {
  const paragraphs: string[][] = [];
  let current: string[] = [];
  let isCode = false;
  for (const line of lines) {
    if (/^ {0,3}(?:```|~~~)/.test(line)) isCode = !isCode;
    if (isCode || line.trim() !== "") current.push(line);
    else if (current.length > 0) {
      paragraphs.push(current);
      current = [];
    }
  }
  if (current.length > 0) paragraphs.push(current);
  return paragraphs.map((paragraph) => paragraph.join("\n").trimEnd()).filter((text) => text !== "");
}

/** Splits a paragraph that is too long between lines, and a line that is too long at spaces or between characters. */
function splitParagraph(paragraph: string): string[] {
  if (paragraph.length <= PASSAGE_CHARS_MAX) return [paragraph];
  const pieces: string[] = [];
  let piece = "";
  for (const line of paragraph.split("\n").flatMap(splitLine)) {
    if (piece !== "" && piece.length + 1 + line.length > PASSAGE_CHARS_MAX) {
      pieces.push(piece);
      piece = "";
    }
    piece = piece === "" ? line : `${piece}\n${line}`;
  }
  return piece.trim() === "" ? pieces : [...pieces, piece];
}

function splitLine(line: string): string[] {
  const parts: string[] = [];
  let rest = line;
  while (rest.length > PASSAGE_CHARS_MAX) {
    let end = rest.lastIndexOf(" ", PASSAGE_CHARS_MAX - 1) + 1 || PASSAGE_CHARS_MAX;
    if (/[\uD800-\uDBFF]/.test(rest.charAt(end - 1))) end -= 1;
    parts.push(rest.slice(0, end));
    rest = rest.slice(end);
  }
  return [...parts, rest];
}
