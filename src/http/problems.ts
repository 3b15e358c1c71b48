import { Type } from "@sinclair/typebox";
import { type ErrorCode, type ErrorExplanation, errorCodes, errorGroups } from "../lib/error-codes.ts";
import { escapeHtml } from "../lib/html.ts";
import { Problem } from "../lib/problem.ts";
import { Closed, Named, Nullable } from "../lib/schema.ts";
import { parseAccept } from "./accept.ts";
import { createLayoutPolicy, renderSitePage } from "./pages/layout.ts";
import { createHtmlHeaders, markdownHeaders, prefersMarkdown } from "./pages/markdown-version.ts";
import { type Route, route } from "./route.ts";

const ProblemExplanation = Named(
  "ProblemExplanation",
  Type.Object({
    code: Type.String(),
    status: Nullable(
      Type.Integer({ description: "The HTTP status, or null if the code isn't used in HTTP responses." }),
    ),
    title: Type.String(),
    temporary: Type.Boolean({ description: "Whether the same request may succeed later." }),
    meaning: Type.String(),
    remedy: Type.String({ description: "How to fix it." }),
  }),
);

/** The pages about error codes, which a problem's `type` links to. They are available as HTML, JSON and Markdown. */
export const problemPages: Route[] = [
  route({
    method: "GET",
    path: "/problems",
    operationId: "listProblems",
    summary: "List all error codes",
    tag: "operations",
    public: true,
    ok: Named("ProblemExplanations", Closed({ data: Type.Array(ProblemExplanation) })),
    mediaTypes: ["application/json", "text/html", "text/markdown"],
    handle: ({ request }) => respond(request, indexPage),
  }),
  route({
    method: "GET",
    path: "/problems.md",
    operationId: "listProblemsAsMarkdown",
    summary: "List all error codes as markdown",
    tag: "operations",
    public: true,
    isHidden: true,
    ok: Type.String(),
    handle: () => respondWithMarkdown(indexPage),
  }),
  route({
    method: "GET",
    path: "/problems/:code",
    operationId: "explainProblem",
    summary: "Explain an error code and how to fix it",
    description: "Append `.md` to the code, or send `Accept: text/markdown`, to get Markdown.",
    tag: "operations",
    public: true,
    params: Type.Object({ code: Type.String() }),
    ok: ProblemExplanation,
    mediaTypes: ["application/json", "text/html", "text/markdown"],
    handle: ({ params, request }) => {
      const code = params.code.replace(/\.md$/, "");
      if (!isErrorCode(code)) throw new Problem("not_found", "Unknown error code. See /problems for the list.");
      const page = createPage(code, errorCodes[code]);
      return code === params.code ? respond(request, page) : respondWithMarkdown(page);
    },
  }),
];

const explanations = Object.entries(errorCodes).map(([code, explanation]) => ({ code, ...explanation }));

/** A page in all its formats. */
type ProblemPage = { path: string; json: unknown; renderHtml(): string; renderMarkdown(): string };

const indexPage: ProblemPage = {
  path: "/problems",
  json: { data: explanations },
  renderHtml: renderIndex,
  renderMarkdown: renderMarkdownIndex,
};

const createPage = (code: ErrorCode, explanation: ErrorExplanation): ProblemPage => ({
  path: `/problems/${code}`,
  json: { code, ...explanation },
  renderHtml: () => renderPage(code, explanation),
  renderMarkdown: () => `# ${explanation.title}\n\n${renderMarkdown(code, explanation)}\n`,
});

const cacheHeaders = { "cache-control": "public, max-age=3600", vary: "Accept, Origin" };
const pagePolicy = createLayoutPolicy();

function respond(request: Request, page: ProblemPage): Response {
  if (prefersMarkdown(request)) return respondWithMarkdown(page);
  if (prefersJson(request.headers.get("accept"))) return Response.json(page.json, { headers: cacheHeaders });
  const headers = { ...createHtmlHeaders(`${page.path}.md`, pagePolicy), ...cacheHeaders };
  return new Response(page.renderHtml(), { headers });
}

const respondWithMarkdown = (page: ProblemPage): Response =>
  new Response(page.renderMarkdown(), { headers: { ...markdownHeaders, ...cacheHeaders } });

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(errorCodes, code);
}

/** Whether `Accept` contains JSON with at least the weight of HTML. Browsers never send such a header. */
function prefersJson(accept: string | null): boolean {
  const ranges = parseAccept(accept);
  const json = Math.max(0, ...ranges.filter(({ type }) => jsonTypePattern.test(type)).map(({ quality }) => quality));
  return json > 0 && json >= (ranges.find(({ type }) => type === "text/html")?.quality ?? 0);
}

const jsonTypePattern = /^application\/(?:[\w.-]+\+)?json$/;

function renderIndex(): string {
  const tables = errorGroups.map(
    ({ title, codes }) => `
  <h2>${escapeHtml(title)}</h2>
  <ul>
    ${Object.entries(codes).map(renderLine).join("\n    ")}
  </ul>`,
  );
  return renderDocument("/problems", "Error codes", `<h1>Error codes</h1>${tables.join("")}`);
}

const renderLine = ([code, { status, title }]: [string, ErrorExplanation]): string =>
  `<li><a href="/problems/${code}"><code>${code}</code></a> ${status ?? ""} ${escapeHtml(title)}</li>`;

function renderPage(code: ErrorCode, { status, title, temporary, meaning, remedy }: ErrorExplanation): string {
  return renderDocument(
    `/problems/${code}`,
    title,
    `<p class="note">${status ?? ""} <code>${code}</code></p>
  <h1>${escapeHtml(title)}</h1>
  <dl>
    <dt>What it means</dt><dd>${renderText(meaning)}</dd>
    <dt>What to do</dt><dd>${renderText(remedy)}</dd>
    <dt>Try again?</dt><dd>${temporary ? "Yes, the same request may succeed later." : "No, the same request will fail again."}</dd>
  </dl>
  <p><a href="/problems">All error codes</a></p>`,
  );
}

/** @param main HTML. */
const renderDocument = (path: string, title: string, main: string): string =>
  renderSitePage({ title, markdownPath: `${path}.md`, main: `<div class="text">${main}</div>` });

const renderMarkdown = (code: string, { status, temporary, meaning, remedy }: ErrorExplanation): string =>
  [
    `Code: \`${code}\`${status === null ? "" : `, HTTP status ${status}`}`,
    `What it means: ${meaning}`,
    `What to do: ${remedy}`,
    `Try again? ${temporary ? "Yes, the same request may succeed later." : "No, the same request will fail again."}`,
  ].join("\n\n");

function renderMarkdownIndex(): string {
  const groups = errorGroups.map(({ title, codes }) => {
    const parts = Object.entries(codes).map(
      ([code, explanation]) => `### ${explanation.title}\n\n${renderMarkdown(code, explanation)}`,
    );
    return [`## ${title}`, ...parts].join("\n\n");
  });
  return `${["# Error codes", ...groups].join("\n\n")}\n`;
}

/** Renders text with code in backticks as HTML. */
function renderText(text: string): string {
  return escapeHtml(text).replaceAll(/`([^`]+)`/g, "<code>$1</code>");
}
