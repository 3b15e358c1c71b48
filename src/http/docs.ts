import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { swagger } from "@elysiajs/swagger";
import { Elysia } from "elysia";
import scalarPath from "../../node_modules/@scalar/api-reference/dist/browser/standalone.js" with { type: "file" };
import scalarPackage from "../../node_modules/@scalar/api-reference/package.json";
import { build } from "../lib/build.ts";
import { escapeHtml } from "../lib/html.ts";
import { hashTag, respondWithTag } from "./etag.ts";
import { finishDocument } from "./openapi-document.ts";
import type { DeclaredRoute } from "./route-index.ts";
import { createPagePolicy } from "./security-headers.ts";

const PAGE_PATH = "/swagger";
const DOCUMENT_PATH = "/swagger/json";
const SCRIPT_PATH = `/swagger/scalar-${scalarPackage.version}.js`;

/** Everything that would call a server other than this one is off. */
const scalarSettings = {
  url: DOCUMENT_PATH,
  hideModels: true,
  theme: "default",
  withDefaultFonts: false,
  telemetry: false,
  hideClientButton: true,
  showDeveloperTools: "never",
  agent: { disabled: true, hideAddApi: true },
  mcp: { disabled: true },
  persistAuth: false,
  authentication: { preferredSecurityScheme: "bearer" },
} as const;

/** The page needs inline styles and compiles nothing; it may talk to this server alone. */
const pagePolicy = createPagePolicy({
  "script-src": "'self'",
  "style-src": "'self' 'unsafe-inline'",
  "img-src": "'self' data: blob:",
  "font-src": "'self' data:",
  "connect-src": "'self'",
});

const pageHeaders = {
  "content-type": "text/html; charset=utf-8",
  "content-security-policy": pagePolicy,
  "cache-control": "no-cache",
};

const page = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Parley API</title>
<link rel="icon" href="data:,">
<body>
<script id="api-reference" type="application/json" data-url="${DOCUMENT_PATH}"
  data-configuration="${escapeHtml(JSON.stringify(scalarSettings))}"></script>
<script src="${SCRIPT_PATH}"></script>
</body>
</html>
`;

/** `/swagger` (a page that needs no internet) and `/swagger/json` (OpenAPI 3.0.3) of all routes of the app it is used in. */
export function createDocs(deps: { serverUrl: string; listRoutes: () => DeclaredRoute[] }) {
  let document: { text: string; tag: string } | undefined;
  const readScript = createCompressed(scalarPath);

  return (
    new Elysia({ name: "docs" })
      .onAfterHandle(async ({ path, request, response }) => {
        if (path !== DOCUMENT_PATH) return;
        if (!document) {
          const about = { version: build.version, serverUrl: deps.serverUrl, routes: deps.listRoutes() };
          const text = JSON.stringify(finishDocument(response, about));
          document = { text, tag: hashTag(text) };
        }
        return respondWithTag(request, document.tag, document.text, { "content-type": "application/json" });
      })
      .use(
        swagger({
          path: PAGE_PATH,
          specPath: DOCUMENT_PATH,
          documentation: { info: { title: "Parley", description: "The API of Parley", version: build.version } },
        }),
      )
      // Takes the place of the plugin's own page, which carries no policy and styles of another brand.
      .get(PAGE_PATH, () => new Response(page, { headers: pageHeaders }), { detail: { hide: true } })
      .get(
        SCRIPT_PATH,
        async ({ request }) => {
          const headers = {
            "content-type": "text/javascript; charset=utf-8",
            "cache-control": "public, max-age=31536000, immutable",
            vary: "Accept-Encoding, Origin",
          };
          if (!/\bgzip\b/.test(request.headers.get("accept-encoding") ?? ""))
            return new Response(Bun.file(scalarPath), { headers });
          return new Response(await readScript(), { headers: { ...headers, "content-encoding": "gzip" } });
        },
        { detail: { hide: true } },
      )
  );
}

/** The gzip form of a file, made when it is first asked for and then kept. */
function createCompressed(path: string): () => Promise<Uint8Array<ArrayBuffer>> {
  let compressed: Promise<Uint8Array<ArrayBuffer>> | undefined;
  return () => {
    compressed ??= Bun.file(path)
      .arrayBuffer()
      .then(async (bytes) => new Uint8Array(await promisify(gzip)(bytes)));
    return compressed;
  };
}
