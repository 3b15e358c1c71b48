/** Maximum length of a passage, in UTF-16 code units. It is a few paragraphs, so that several passages fit in a model's prompt. */
export const PASSAGE_CHARS_MAX = 1_500;

export type Passage = {
  /** The heading of the passage's section, or null before the first heading. */
  heading: string | null;
  /** The Markdown source, without the heading. */
  content: string;
};

/** Splits a section into passages, between paragraphs where possible. */
export function createPassages(heading: string | null, lines: string[]): Passage[] {
  const passages: Passage[] = [];
  let content = "";
  for (const piece of splitIntoParagraphs(lines).flatMap(splitLongParagraph)) {
    const extended = content === "" ? piece : `${content}\n\n${piece}`;
    if (extended.length <= PASSAGE_CHARS_MAX) {
      content = extended;
      continue;
    }
    passages.push({ heading, content });
    content = piece;
  }
  if (content !== "") passages.push({ heading, content });
  return passages;
}

/** Splits at blank lines, except inside code blocks. */
function splitIntoParagraphs(lines: string[]): string[] {
  const paragraphs: string[][] = [];
  let paragraph: string[] = [];
  let isInCodeBlock = false;
  for (const line of lines) {
    if (/^ {0,3}(?:```|~~~)/.test(line)) isInCodeBlock = !isInCodeBlock;
    if (isInCodeBlock || line.trim() !== "") paragraph.push(line);
    else if (paragraph.length > 0) {
      paragraphs.push(paragraph);
      paragraph = [];
    }
  }
  if (paragraph.length > 0) paragraphs.push(paragraph);
  return paragraphs.map((paragraph) => paragraph.join("\n").trimEnd()).filter((text) => text !== "");
}

/** Splits a paragraph at line breaks if it is too long. A line that is too long is split at spaces or between characters. */
function splitLongParagraph(paragraph: string): string[] {
  if (paragraph.length <= PASSAGE_CHARS_MAX) return [paragraph];
  const pieces: string[] = [];
  let piece = "";
  for (const line of paragraph.split("\n").flatMap(splitLongLine)) {
    if (piece !== "" && piece.length + 1 + line.length > PASSAGE_CHARS_MAX) {
      pieces.push(piece);
      piece = "";
    }
    piece = piece === "" ? line : `${piece}\n${line}`;
  }
  return piece.trim() === "" ? pieces : [...pieces, piece];
}

function splitLongLine(line: string): string[] {
  const pieces: string[] = [];
  let remaining = line;
  while (remaining.length > PASSAGE_CHARS_MAX) {
    let end = remaining.lastIndexOf(" ", PASSAGE_CHARS_MAX - 1) + 1 || PASSAGE_CHARS_MAX;
    if (/[\uD800-\uDBFF]/.test(remaining.charAt(end - 1))) end -= 1;
    pieces.push(remaining.slice(0, end));
    remaining = remaining.slice(end);
  }
  return [...pieces, remaining];
}
