import { Type } from "@sinclair/typebox";
import { type CompressedText, createCompressedText, respondWithText } from "../../http/compressed-text.ts";
import { createLayoutPolicy } from "../../http/pages/layout.ts";
import { createHtmlHeaders, markdownHeaders, prefersMarkdown } from "../../http/pages/markdown-version.ts";
import { type Route, route } from "../../http/route.ts";
import { createNotFoundProblem } from "../../lib/problem.ts";
import { SearchText } from "../../lib/schema.ts";
import { renderGuide, renderGuideIndex } from "./guide-page.ts";
import { createGuideSearch, type Guide, type GuideGroup, getProjectSummary, listGuideGroups } from "./guides.ts";

/** Maximum length of a search query, in UTF-16 code units. */
const QUERY_CHARS_MAX = 200;
/** The group of guides that models rarely need. llms.txt lists it as optional. */
const OPTIONAL_GROUP_TITLE = "For contributors";

const policy = createLayoutPolicy();
const textHeaders = { "content-type": "text/plain; charset=utf-8", "cache-control": "no-cache" };

/**
 * Creates the routes for the guides in the executable, as pages and as Markdown, and for `/llms.txt`. They don't depend on DOCUMENTS_DIR.
 * Each page is rendered on its first request and cached.
 */
export function createGuideRoutes(): Route[] {
  const sharedOptions = { method: "GET", tag: "documents", public: true, isHidden: true, ok: Type.String() } as const;
  const cachedTexts = new Map<string, Promise<CompressedText>>();
  const getGroups = createLazy(listGuideGroups);
  const getGuides = createLazy(() => getGroups().flatMap((group) => group.guides));
  const getSearch = createLazy(() => createGuideSearch(getGuides()));

  /** Responds with cached text. @param key the cache key. Each key belongs to a route or an existing guide, so the cache is limited. */
  async function respond(request: Request, key: string, render: () => string, headers: Record<string, string>) {
    const text = cachedTexts.get(key) ?? createCompressedText(render());
    cachedTexts.set(key, text);
    return respondWithText(request, await text, headers);
  }

  const respondWithIndex = (request: Request) =>
    respond(request, "/docs.md", () => `# Guides\n\n${listGroups(getGroups())}`, markdownHeaders);

  return [
    route({
      ...sharedOptions,
      path: "/docs",
      operationId: "showGuides",
      summary: "List the guides, or search them with `q`",
      query: Type.Object({ q: Type.Optional(SearchText({ maxLength: QUERY_CHARS_MAX })) }),
      handle: ({ request, query }) => {
        const headers = createHtmlHeaders("/docs.md", policy);
        if (query.q?.trim()) {
          const search = getSearch();
          const results = { query: query.q, sections: search(query.q) };
          return new Response(renderGuideIndex(getGroups(), results), { headers });
        }
        if (prefersMarkdown(request)) return respondWithIndex(request);
        return respond(request, "/docs", () => renderGuideIndex(getGroups()), headers);
      },
    }),
    route({
      ...sharedOptions,
      path: "/docs.md",
      operationId: "listGuides",
      summary: "List the guides as Markdown",
      handle: ({ request }) => respondWithIndex(request),
    }),
    route({
      ...sharedOptions,
      path: "/docs/:name",
      operationId: "showGuide",
      summary: "Show a guide as a page, or as Markdown if its name ends with `.md`",
      params: Type.Object({ name: Type.String() }),
      handle: ({ params, request }) => {
        const name = params.name.replace(/\.md$/, "");
        const guide = getGuides().find((candidate) => candidate.name === name);
        if (!guide) throw createNotFoundProblem("guide");
        const path = `/docs/${name}`;
        if (name !== params.name || prefersMarkdown(request))
          return respond(request, `${path}.md`, () => guide.markdown, markdownHeaders);
        return respond(request, path, () => renderGuide(guide), createHtmlHeaders(`${path}.md`, policy));
      },
    }),
    route({
      ...sharedOptions,
      path: "/llms.txt",
      operationId: "getLlmsTxt",
      summary: "List the documentation for models (llmstxt.org)",
      handle: ({ request }) => respond(request, "/llms.txt", () => renderLlmsTxt(getGroups()), textHeaders),
    }),
    route({
      ...sharedOptions,
      path: "/llms-full.txt",
      operationId: "getLlmsFullTxt",
      summary: "Get all guides in one file, for models",
      handle: ({ request }) => respond(request, "/llms-full.txt", () => joinGuides(getGuides()), textHeaders),
    }),
  ];
}

/** Returns a function that creates a value on its first call and then returns the same value. */
function createLazy<T extends object>(create: () => T): () => T {
  let created: T | undefined;
  return () => {
    created ??= create();
    return created;
  };
}

function listGroups(groups: readonly GuideGroup[]): string {
  const parts = groups.map(({ title, guides }) => {
    const items = guides.map((guide) => `- [${guide.title}](/docs/${guide.name}.md): ${guide.summary}\n`);
    return `## ${title}\n\n${items.join("")}`;
  });
  return parts.join("\n");
}

const renderLlmsTxt = (groups: readonly GuideGroup[]): string => `# Parley

> ${getProjectSummary()}

Every page of this server's documentation is also markdown: add \`.md\` to its path, or send \`Accept: text/markdown\`.

## API reference

- [REST API](/swagger.md): every operation and schema
- [OpenAPI document](/swagger/json): the same for programs
- [Realtime API](/asyncapi.md): every WebSocket frame, event, close code and limit, event streams, webhooks
- [AsyncAPI document](/asyncapi.json): the same for programs
- [Error codes](/problems.md): what each means and what to do
- [All guides in one file](/llms-full.txt)

${listGroups(groups.map((group) => (group.title === OPTIONAL_GROUP_TITLE ? { ...group, title: "Optional" } : group)))}`;

/** Joins all guides except the changelog. Links between them lead to the individual guides. */
const joinGuides = (guides: readonly Guide[]): string =>
  guides
    .filter(({ name }) => name !== "changelog")
    .map(({ name, markdown }) => {
      const markdownWithLinks = markdown.replaceAll(/\]\(([\w-]+\.md(?:#[^)\s]*)?)\)/g, "](/docs/$1)");
      return `<!-- /docs/${name}.md -->\n\n${markdownWithLinks.trim()}\n`;
    })
    .join("\n");
