import { embeddedDocs } from "./embedded-source.ts";
import { parseMarkdown } from "./markdown.ts";

/** A page of the documentation in the executable. */
export type Guide = {
  /** The last part of its URL path, such as `getting-started`. */
  name: string;
  title: string;
  /** A line from the README. */
  summary: string;
  /** The Markdown source, except that links to files outside docs/ are plain text. */
  markdown: string;
};

export type GuideGroup = { title: string; guides: Guide[] };

/** Matches the README's tables of guides, which define the groups, their order and the summaries. */
const GROUP_PATTERN = /^For ([\w ]+):\n\n((?:\|.*\n)+)/gm;
const ROW_PATTERN = /^\| \[docs\/([\w-]+)\.md\]\([^)]*\) \| (.*) \|$/gm;

const getDoc = (path: string): string => embeddedDocs.find((doc) => doc.path === path)?.content ?? "";

/** Returns the README's first paragraph after the title. */
export const getProjectSummary = (): string =>
  /^# .*\n\n([\s\S]*?)\n\n/.exec(getDoc("README.md"))?.[1]?.replace(/:$/, ".").replaceAll("\n", " ") ?? "";

/** Returns all guides by group, in reading order. The changelog is last. */
export function listGuideGroups(): GuideGroup[] {
  const names = new Set(
    embeddedDocs.filter(({ path }) => path.startsWith("docs/")).map(({ path }) => getGuideName(path)),
  );
  const createGuide = (path: string, summary: string): Guide => {
    const markdown = rewriteLinks(getDoc(path), names);
    return { name: getGuideName(path), title: parseMarkdown(path, markdown).title, summary, markdown };
  };
  const groups = [...getDoc("README.md").matchAll(GROUP_PATTERN)].map(([, title = "", table = ""]) => ({
    title: `For ${title}`,
    guides: [...table.matchAll(ROW_PATTERN)].map(([, name, summary = ""]) => createGuide(`docs/${name}.md`, summary)),
  }));
  groups.at(-1)?.guides.push(createGuide("CHANGELOG.md", "changes by version"));
  return groups;
}

const getGuideName = (path: string): string =>
  path
    .replace(/^docs\//, "")
    .replace(/\.md$/, "")
    .toLowerCase();

/** Matches code blocks and inline code, which aren't changed, and links. */
const CODE_OR_LINK = /^ *```[\s\S]*?^ *```|`[^`\n]+`(?!\])|\[((?:`[^`\n]*`|[^[\]`])*)\]\(([^)\s]*)\)/gm;

/** Replaces links to other files with plain text. Links between guides are relative, so they work without changes. */
function rewriteLinks(markdown: string, names: ReadonlySet<string>): string {
  return markdown.replaceAll(CODE_OR_LINK, (match: string, text: string | undefined, target: string | undefined) => {
    if (text === undefined || target === undefined || /^(?:https?:|#|\/)/.test(target)) return match;
    const name = /^([\w-]+)\.md(?:#.*)?$/.exec(target)?.[1];
    return name !== undefined && names.has(name) ? match : text;
  });
}

export type GuideSection = { name: string; slug: string; title: string };

/** The maximum number of words in a search. Further words are ignored. */
const QUERY_WORDS_MAX = 8;
const RESULTS_MAX = 50;

/** Creates a search for sections that contain all words of a query. Sections with a word in their title come first. */
export function createGuideSearch(guides: readonly Guide[]): (query: string) => GuideSection[] {
  const passages = guides.flatMap(({ name, title, markdown }) => {
    const { headings, passages: guidePassages } = parseMarkdown(`${name}.md`, markdown);
    return guidePassages.map(({ heading, content }) => {
      const fullTitle = heading === null || heading === title ? title : `${title}: ${heading}`;
      const slug = headings.find(({ text }) => text === heading)?.slug ?? "";
      return {
        section: { name, slug, title: fullTitle },
        lowercaseTitle: fullTitle.toLowerCase(),
        text: content.toLowerCase(),
      };
    });
  });
  return (query) => {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean).slice(0, QUERY_WORDS_MAX);
    if (words.length === 0) return [];
    const matches = passages.filter((passage) =>
      words.every((word) => passage.lowercaseTitle.includes(word) || passage.text.includes(word)),
    );
    const hasWordInTitle = (passage: { lowercaseTitle: string }) =>
      words.some((word) => passage.lowercaseTitle.includes(word));
    const sorted = [...matches.filter(hasWordInTitle), ...matches.filter((passage) => !hasWordInTitle(passage))];
    const unique = new Map(sorted.map(({ section }) => [`${section.name}#${section.slug}`, section]));
    return [...unique.values()].slice(0, RESULTS_MAX);
  };
}
