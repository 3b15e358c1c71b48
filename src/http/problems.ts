import { Type } from "@sinclair/typebox";
import { type ErrorCode, type ErrorExplanation, errorCodes, errorGroups } from "../lib/error-codes.ts";
import { escapeHtml } from "../lib/html.ts";
import { Problem } from "../lib/problem.ts";
import { Closed, Named, Nullable } from "../lib/schema.ts";
import { readAccept } from "./accept.ts";
import { type Route, route } from "./route.ts";
import { createPagePolicy } from "./security-headers.ts";

const ProblemExplanation = Named(
  "ProblemExplanation",
  Type.Object({
    code: Type.String(),
    status: Nullable(Type.Integer({ description: "The HTTP status; null if the code is not used in HTTP responses." })),
    title: Type.String(),
    temporary: Type.Boolean({ description: "Whether the same request may succeed later." }),
    meaning: Type.String(),
    remedy: Type.String({ description: "How to fix it." }),
  }),
);

/** `/problems` and `/problems/{code}`, the target of a problem's `type`: HTML pages, or JSON for `Accept: application/json`. */
export const problemPages: Route[] = [
  route({
    method: "GET",
    path: "/problems",
    operationId: "listProblems",
    summary: "List all error codes",
    tag: "operations",
    public: true,
    ok: Named("ProblemExplanations", Closed({ data: Type.Array(ProblemExplanation) })),
    mediaTypes: ["application/json", "text/html"],
    handle: ({ request }) => respond(request, { data: explanations }, renderIndex),
  }),
  route({
    method: "GET",
    path: "/problems/:code",
    operationId: "explainProblem",
    summary: "Explain an error code and how to fix it",
    tag: "operations",
    public: true,
    params: Type.Object({ code: Type.String() }),
    ok: ProblemExplanation,
    mediaTypes: ["application/json", "text/html"],
    handle: ({ params, request }) => {
      const { code } = params;
      if (!isErrorCode(code)) throw new Problem("not_found", "Unknown error code. See /problems for the list.");
      return respond(request, { code, ...errorCodes[code] }, () => renderPage(code, errorCodes[code]));
    },
  }),
];

const explanations = Object.entries(errorCodes).map(([code, explanation]) => ({ code, ...explanation }));

function respond(request: Request, json: unknown, renderHtml: () => string): Response {
  const headers = { "cache-control": "public, max-age=3600", vary: "Accept, Origin" };
  if (prefersJson(request.headers.get("accept"))) return Response.json(json, { headers });
  return new Response(renderHtml(), {
    headers: { ...headers, "content-type": "text/html; charset=utf-8", "content-security-policy": pagePolicy },
  });
}

const pagePolicy = createPagePolicy({ "default-src": "'none'", "style-src": "'unsafe-inline'" });

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(errorCodes, code);
}

/** Browsers name HTML. A client that names JSON with at least the same weight is a program. */
function prefersJson(accept: string | null): boolean {
  const ranges = readAccept(accept);
  const json = Math.max(0, ...ranges.filter(({ type }) => isJson.test(type)).map(({ quality }) => quality));
  return json > 0 && json >= (ranges.find(({ type }) => type === "text/html")?.quality ?? 0);
}

const isJson = /^application\/(?:[\w.-]+\+)?json$/;

function renderIndex(): string {
  const tables = errorGroups.map(
    ({ title, codes }) => `
  <h2>${escapeHtml(title)}</h2>
  <ul>
    ${Object.entries(codes).map(renderLine).join("\n    ")}
  </ul>`,
  );
  return renderDocument("Error codes", `<h1>Error codes</h1>${tables.join("")}`);
}

const renderLine = ([code, { status, title }]: [string, ErrorExplanation]): string =>
  `<li><a href="/problems/${code}"><code>${code}</code></a> ${status ?? ""} ${escapeHtml(title)}</li>`;

function renderPage(code: ErrorCode, { status, title, temporary, meaning, remedy }: ErrorExplanation): string {
  return renderDocument(
    title,
    `<p class="status">${status ?? ""} <code>${code}</code></p>
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
const renderDocument = (title: string, main: string): string => `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>
  :root { color-scheme: light dark; }
  body { font: 1rem/1.6 system-ui, sans-serif; max-width: 38rem; margin: 4rem auto; padding: 0 1.25rem; }
  code { font: 0.95em ui-monospace, monospace; }
  .status { opacity: 0.7; margin: 0; }
  h1 { line-height: 1.25; margin: 0.25rem 0 1.5rem; }
  dt { font-weight: 600; margin-top: 1rem; }
  dd { margin: 0; }
</style>
<main>
  ${main}
</main>
</html>
`;

/** Escapes, and shows text in backticks as code. */
function renderText(text: string): string {
  return escapeHtml(text).replaceAll(/`([^`]+)`/g, "<code>$1</code>");
}
