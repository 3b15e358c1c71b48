import { createPassages, type Passage } from "./passages.ts";
import { toPlainText } from "./plain-text.ts";

/** Maximum number of listed headings per document. Further headings still start sections. */
export const HEADINGS_MAX = 200;
/** Maximum length of a heading or title, in UTF-16 code units. The rest is cut off. */
const HEADING_CHARS_MAX = 200;

export type Heading = { level: number; text: string; slug: string };
export type ParsedDocument = { title: string; headings: Heading[]; passages: Passage[] };

/**
 * Finds a document's title, headings and passages in one pass over its lines. Never fails, and takes linear time for any input.
 * Recognizes the same headings as renderers, except in lists and quotes.
 */
export function parseMarkdown(path: string, content: string): ParsedDocument {
  const { matter, body } = splitFrontMatter(cleanText(content));
  const headings: Heading[] = [];
  const passages: Passage[] = [];
  const createSlug = createSlugger();
  for (const section of splitSections(body)) {
    const text = section.heading === null ? null : formatHeading(section.heading.text);
    if (section.heading && text !== null) {
      const heading = { level: section.heading.level, text, slug: createSlug(text) };
      if (headings.length < HEADINGS_MAX) headings.push(heading);
    }
    passages.push(...createPassages(text, section.lines));
  }
  const title = findTitle(matter) ?? headings.find(({ level }) => level === 1)?.text;
  return { title: title || getBaseName(path), headings, passages };
}

/** Normalizes text, so that it can be stored and compared: Unicode NFC, no control characters, `\n` as line break. */
function cleanText(content: string): string {
  return content
    .normalize("NFC")
    .replaceAll(/\r\n?/g, "\n")
    .replaceAll(/[^\P{Cc}\n\t]|\uFEFF/gu, "");
}

/** Splits off the front matter (lines between `---` and `---`), which is not part of the text. */
export function splitFrontMatter(text: string): { matter: string; body: string } {
  const opening = /^\uFEFF?---[ \t]*\r?\n/.exec(text);
  const closing = opening && /\n---[ \t]*(?:\r?\n|$)/.exec(text.slice(opening[0].length - 1));
  if (!opening || !closing) return { matter: "", body: text };
  const start = opening[0].length;
  const end = start - 1 + closing.index;
  return { matter: text.slice(start, end), body: text.slice(end + closing[0].length) };
}

function findTitle(matter: string): string | null {
  const line = /^title:[ \t]*(\S.*)$/m.exec(matter)?.[1]?.trim();
  const unquoted = line?.replace(/^(["'])(.*)\1$/, "$2");
  return unquoted ? formatHeading(unquoted) : null;
}

function getBaseName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1).replace(/\.md$/, "");
}

/** Formats a heading as plain text on one line, cut to the maximum length. */
function formatHeading(raw: string): string {
  const text = toPlainText(raw.slice(0, 5 * HEADING_CHARS_MAX));
  return text
    .slice(0, HEADING_CHARS_MAX)
    .toWellFormed()
    .replace(/\uFFFD$/, "")
    .trim();
}

/** Creates anchors for the headings that a renderer found. They are the same as in `parseMarkdown` if both find the same headings. */
export function createAnchors(body: string, renderedHeadings: { level: number; text: string }[]): string[] {
  const createSlug = createSlugger();
  const parsed = splitSections(cleanText(body)).flatMap(({ heading }) => heading ?? []);
  const hasSameLevels =
    parsed.length === renderedHeadings.length &&
    parsed.every(({ level }, index) => level === renderedHeadings[index]?.level);
  return (hasSameLevels ? parsed : renderedHeadings).map(({ text }) => createSlug(formatHeading(text)));
}

/** Creates a function that creates the same anchors as GitHub, so that links written for GitHub work: `#getting-started`, `#notes-1`. */
function createSlugger(): (text: string) => string {
  const usedSlugs = new Map<string, number>();
  return (text) => {
    const base =
      text
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}\p{M}\s_-]/gu, "")
        .trim()
        .replaceAll(/\s/g, "-") || "section";
    let count = usedSlugs.get(base) ?? 0;
    let slug = count === 0 ? base : `${base}-${count}`;
    while (usedSlugs.has(slug) && count > 0) slug = `${base}-${++count}`;
    usedSlugs.set(base, count + 1);
    if (slug !== base) usedSlugs.set(slug, 1);
    return slug;
  };
}

type Section = { heading: { level: number; text: string } | null; lines: string[] };

function splitSections(body: string): Section[] {
  const sections: Section[] = [];
  let section: Section = { heading: null, lines: [] };
  const startSection = (level: number, text: string) => {
    sections.push(section);
    section = { heading: { level, text }, lines: [] };
  };
  let blockEnd: RegExp | null = null;
  // The number of lines in the current paragraph. An underline turns a paragraph into a heading only if the paragraph has one line.
  let paragraphLines = 0;
  for (const line of body.split("\n")) {
    if (blockEnd) {
      if (blockEnd.test(line)) blockEnd = null;
      section.lines.push(line);
      continue;
    }
    blockEnd = findBlockEnd(line);
    const heading = blockEnd ? null : parseHeading(line);
    const underline = blockEnd || paragraphLines !== 1 ? null : /^ {0,3}(?:=+|-+)[ \t]*$/.exec(line);
    if (heading) startSection(heading.level, heading.text);
    else if (underline) startSection(line.includes("=") ? 1 : 2, section.lines.pop() ?? "");
    else section.lines.push(line);
    paragraphLines = blockEnd || heading || underline || !isParagraphLine(line) ? 0 : paragraphLines + 1;
  }
  return [...sections, section];
}

/** Returns a pattern for the end of the code block or comment that this line opens, or null if it opens none. */
function findBlockEnd(line: string): RegExp | null {
  const fence = /^ {0,3}(`{3,}|~{3,})(.*)$/.exec(line);
  if (fence?.[1] && !(fence[1].startsWith("`") && fence[2]?.includes("`")))
    return new RegExp(`^ {0,3}${fence[1].charAt(0)}{${Math.min(fence[1].length, 100)},}[ \\t]*$`);
  return /^ {0,3}<!--/.test(line) && !line.includes("-->") ? /-->/ : null;
}

function parseHeading(line: string): { level: number; text: string } | null {
  const marks = /^ {0,3}(#{1,6})(?=[ \t]|$)/.exec(line);
  if (!marks?.[1]) return null;
  const text = line.slice(marks[0].length).trim();
  let end = text.length;
  while (text[end - 1] === "#") end--;
  const isClosed = end === 0 || text[end - 1] === " " || text[end - 1] === "\t";
  return { level: marks[1].length, text: isClosed ? text.slice(0, end).trim() : text };
}

/** Returns whether a line can belong to a paragraph: it isn't blank, code, a rule, or the start of a list, quote, table or tag. */
function isParagraphLine(line: string): boolean {
  return /^ {0,3}[^\s>|<]/.test(line) && !/^ {0,3}(?:(?:[-*+]|\d{1,9}[.)])(?:[ \t]|$)|[-*_=][-*_=\s]*$)/.test(line);
}
