import { embeddedDocs } from "./embedded-source.ts";
import { parseMarkdown } from "./markdown.ts";

/** A page of the documentation that is part of the executable. */
export type Guide = {
  /** The last part of its path: `getting-started`. */
  name: string;
  title: string;
  /** One line, from the README. */
  summary: string;
  /** As in the repository, except links that lead out of docs/. */
  markdown: string;
};

export type GuideGroup = { title: string; guides: Guide[] };

/** The README's tables of guides, which give the groups, their order and the summaries. */
const GROUP = /^For ([\w ]+):\n\n((?:\|.*\n)+)/gm;
const ROW = /^\| \[docs\/([\w-]+)\.md\]\([^)]*\) \| (.*) \|$/gm;

const readDoc = (path: string): string => embeddedDocs.find((doc) => doc.path === path)?.content ?? "";

/** The README's first sentence after the title. */
export const readSummary = (): string =>
  /^# .*\n\n([\s\S]*?)\n\n/.exec(readDoc("README.md"))?.[1]?.replace(/:$/, ".").replaceAll("\n", " ") ?? "";

/** All guides by group, in reading order; the changelog is the last. */
export function readGuideGroups(): GuideGroup[] {
  const names = new Set(embeddedDocs.filter(({ path }) => path.startsWith("docs/")).map(({ path }) => nameGuide(path)));
  const read = (path: string, summary: string): Guide => {
    const markdown = rewriteLinks(readDoc(path), names);
    return { name: nameGuide(path), title: parseMarkdown(path, markdown).title, summary, markdown };
  };
  const groups = [...readDoc("README.md").matchAll(GROUP)].map(([, title = "", table = ""]) => ({
    title: `For ${title}`,
    guides: [...table.matchAll(ROW)].map(([, name, summary = ""]) => read(`docs/${name}.md`, summary)),
  }));
  groups.at(-1)?.guides.push(read("CHANGELOG.md", "changes by version"));
  return groups;
}

const nameGuide = (path: string): string =>
  path
    .replace(/^docs\//, "")
    .replace(/\.md$/, "")
    .toLowerCase();

/** Code blocks and code in a line, which stay as they are, or a link. */
const CODE_OR_LINK = /^ *```[\s\S]*?^ *```|`[^`\n]+`(?!\])|\[((?:`[^`\n]*`|[^[\]`])*)\]\(([^)\s]*)\)/gm;

/** Links between guides are relative, so they work here as they do in the repository. Links elsewhere become plain text. */
function rewriteLinks(markdown: string, names: ReadonlySet<string>): string {
  return markdown.replaceAll(CODE_OR_LINK, (whole: string, text: string | undefined, target: string | undefined) => {
    if (text === undefined || target === undefined || /^(?:https?:|#|\/)/.test(target)) return whole;
    const name = /^([\w-]+)\.md(?:#.*)?$/.exec(target)?.[1];
    return name !== undefined && names.has(name) ? whole : text;
  });
}

export type FoundSection = { name: string; slug: string; title: string };

/** Further words of a search are ignored. */
const SEARCH_WORDS_MAX = 8;
const SECTIONS_FOUND_MAX = 50;

/** Searches sections for all words of a query; sections with a word in their title come first. */
export function createGuideSearch(guides: readonly Guide[]): (query: string) => FoundSection[] {
  const passages = guides.flatMap(({ name, title, markdown }) => {
    const { headings, passages: own } = parseMarkdown(`${name}.md`, markdown);
    return own.map(({ heading, content }) => {
      const full = heading === null || heading === title ? title : `${title}: ${heading}`;
      const slug = headings.find(({ text }) => text === heading)?.slug ?? "";
      return { section: { name, slug, title: full }, words: full.toLowerCase(), text: content.toLowerCase() };
    });
  });
  return (query) => {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean).slice(0, SEARCH_WORDS_MAX);
    if (words.length === 0) return [];
    const found = passages.filter((one) => words.every((word) => one.words.includes(word) || one.text.includes(word)));
    const isTitled = (one: { words: string }) => words.some((word) => one.words.includes(word));
    const sorted = [...found.filter(isTitled), ...found.filter((one) => !isTitled(one))];
    const unique = new Map(sorted.map(({ section }) => [`${section.name}#${section.slug}`, section]));
    return [...unique.values()].slice(0, SECTIONS_FOUND_MAX);
  };
}
