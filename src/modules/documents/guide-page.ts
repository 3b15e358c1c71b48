import { renderSitePage } from "../../http/pages/layout.ts";
import { escapeHtml } from "../../lib/html.ts";
import type { Guide, GuideGroup, GuideSection } from "./guides.ts";
import { createAnchors, parseMarkdown } from "./markdown.ts";
import { sanitizeHtml } from "./sanitize-html.ts";

/** The deepest heading level in the table of contents. */
const CONTENTS_HEADING_LEVEL_MAX = 3;

/** Renders a guide as a page with anchors and a table of contents. The page is sanitized, so it runs no scripts. */
export function renderGuide({ name, title, markdown }: Pick<Guide, "name" | "title" | "markdown">): string {
  const html = Bun.markdown.html(markdown, { autolinks: true, headings: { ids: true } });
  const safeHtml = sanitizeHtml(html, { createAnchors: (headings) => createAnchors(markdown, headings) });
  const body = safeHtml === null ? `<pre>${escapeHtml(markdown)}</pre>` : addAnchors(replaceFileLinks(safeHtml));
  const links = parseMarkdown(`${name}.md`, markdown)
    .headings.filter(({ level }) => level > 1 && level <= CONTENTS_HEADING_LEVEL_MAX)
    .map(({ level, text, slug }) => {
      const link = `<a href="#${escapeHtml(slug)}">${escapeHtml(text)}</a>`;
      return `<li>${level === 2 ? link : `<ul><li>${link}</li></ul>`}</li>`;
    });
  return renderSitePage({
    title: `${title} - Parley`,
    markdownPath: `/docs/${name}.md`,
    contents: links.length === 0 ? "" : `<ul>\n${links.join("\n")}\n</ul>`,
    main: `<div class="text">\n${body}</div>`,
  });
}

/** Replaces links between the guides' files with links between their pages. */
const replaceFileLinks = (html: string): string =>
  html.replaceAll(/ href="([\w-]+)\.md(#[^"]*)?" rel="[^"]*"/g, ' href="/docs/$1$2"');

const addAnchors = (html: string): string =>
  html.replaceAll(
    /<h([2-6]) id="([^"]+)">(.*?)<\/h\1>/gs,
    '<h$1 id="$2">$3 <a class="anchor" href="#$2" aria-label="Link to this section">#</a></h$1>',
  );

type SearchResults = { query: string; sections: GuideSection[] };

/** Renders the list of all guides, or the results of a search. */
export function renderGuideIndex(groups: readonly GuideGroup[], results?: SearchResults): string {
  const query = escapeHtml(results?.query ?? "");
  const resultItems = results?.sections.map(
    ({ name, slug, title }) =>
      `<li><a href="/docs/${name}${slug && `#${escapeHtml(slug)}`}">${escapeHtml(title)}</a></li>`,
  );
  const list = groups.map(({ title, guides }) => {
    const items = guides.map(
      (guide) =>
        `<li><a href="/docs/${guide.name}">${escapeHtml(guide.title)}</a>: ${escapeHtml(guide.summary).replaceAll(/`([^`]+)`/g, "<code>$1</code>")}</li>`,
    );
    return `<h2>${escapeHtml(title)}</h2>\n<ul>\n${items.join("\n")}\n</ul>`;
  });
  return renderSitePage({
    title: "Guides - Parley",
    markdownPath: "/docs.md",
    main: `<div class="text">
<h1>Guides</h1>
<form action="/docs" role="search"><input name="q" type="search" aria-label="Search the guides" placeholder="Search the guides" value="${query}"><button>Search</button></form>
${resultItems === undefined ? list.join("\n") : `<p>${resultItems.length === 0 ? "Nothing found." : `Sections with all words of “${query}”:`}</p>\n${resultItems.length === 0 ? "" : `<ul>\n${resultItems.join("\n")}\n</ul>`}\n<p><a href="/docs">All guides</a></p>`}
</div>`,
  });
}
