import { Type } from "@sinclair/typebox";
import { escapeHtml } from "../lib/html.ts";
import { Problem, type ProblemCode, problemCodes } from "../lib/problem.ts";
import { Named } from "../lib/schema.ts";
import { readAccept } from "./accept.ts";
import { type Route, route } from "./route.ts";
import { createPagePolicy } from "./security-headers.ts";

const ProblemExplanation = Named(
  "ProblemExplanation",
  Type.Object({
    code: Type.String(),
    status: Type.Integer(),
    title: Type.String(),
    temporary: Type.Boolean({ description: "Whether the same request may succeed later." }),
    meaning: Type.String(),
    mend: Type.String({ description: "What to do about it." }),
  }),
);

/** `/problems/{code}`: what a problem's `type` leads to. A page for people, the same as JSON for `Accept: application/json`. */
export const problemPages: Route[] = [
  route({
    method: "GET",
    path: "/problems/:code",
    operationId: "explainProblem",
    summary: "What an error code means, and how to mend it",
    tag: "operations",
    public: true,
    params: Type.Object({ code: Type.String() }),
    ok: ProblemExplanation,
    mediaTypes: ["application/json", "text/html"],
    handle: ({ params, request }) => {
      if (!isProblemCode(params.code)) throw new Problem("not_found", "There is no such problem.");
      const headers = { "cache-control": "public, max-age=3600", vary: "Accept, Origin" };
      if (prefersJson(request.headers.get("accept")))
        return Response.json({ code: params.code, ...problemCodes[params.code] }, { headers });
      return new Response(renderPage(params.code), {
        headers: { ...headers, "content-type": "text/html; charset=utf-8", "content-security-policy": pagePolicy },
      });
    },
  }),
];

const pagePolicy = createPagePolicy({ "default-src": "'none'", "style-src": "'unsafe-inline'" });

function isProblemCode(code: string): code is ProblemCode {
  return Object.hasOwn(problemCodes, code);
}

/** A person's browser names HTML; whoever names JSON, and likes it no less, is a program. */
function prefersJson(accept: string | null): boolean {
  const ranges = readAccept(accept);
  const json = Math.max(0, ...ranges.filter(({ type }) => isJson.test(type)).map(({ quality }) => quality));
  return json > 0 && json >= (ranges.find(({ type }) => type === "text/html")?.quality ?? 0);
}

const isJson = /^application\/(?:[\w.-]+\+)?json$/;

function renderPage(code: ProblemCode): string {
  const { status, title, temporary, meaning, mend } = problemCodes[code];
  return `<!doctype html>
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
  <p class="status">${status} <code>${code}</code></p>
  <h1>${escapeHtml(title)}</h1>
  <dl>
    <dt>What it means</dt><dd>${renderText(meaning)}</dd>
    <dt>What to do</dt><dd>${renderText(mend)}</dd>
    <dt>Try again?</dt><dd>${temporary ? "Yes, the same request may succeed later." : "No, the same request will fail again."}</dd>
  </dl>
</main>
</html>
`;
}

/** Escapes, and shows what stands in backticks as code. */
function renderText(text: string): string {
  return escapeHtml(text).replaceAll(/`([^`]+)`/g, "<code>$1</code>");
}
