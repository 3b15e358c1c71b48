import { Type } from "@sinclair/typebox";
import scalarPath from "../../node_modules/@scalar/api-reference/dist/browser/standalone.js" with { type: "file" };
import scalarPackage from "../../node_modules/@scalar/api-reference/package.json";
import { build } from "../lib/build.ts";
import { escapeHtml } from "../lib/html.ts";
import {
  acceptsGzip,
  type CompressedText,
  compressGzip,
  createCompressedText,
  respondWithText,
} from "./compressed-text.ts";
import { createOpenApiDocument } from "./openapi-document.ts";
import { createHtmlHeaders, markdownHeaders, prefersMarkdown } from "./pages/markdown-version.ts";
import { renderOpenApiMarkdown } from "./pages/openapi-markdown.ts";
import { type Route, route } from "./route.ts";
import { createPagePolicy } from "./security-headers.ts";

const PAGE_PATH = "/swagger";
const MARKDOWN_PATH = "/swagger.md";
const DOCUMENT_PATH = "/swagger/json";
const SCRIPT_PATH = `/swagger/scalar-${scalarPackage.version}.js` as const;

/** Turns off all features that would contact another server. */
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

/** The page's content security policy. Scalar needs inline styles. The page can only connect to this server. */
const pagePolicy = createPagePolicy({
  "script-src": "'self'",
  "style-src": "'self' 'unsafe-inline'",
  "img-src": "'self' data: blob:",
  "font-src": "'self' data:",
  "connect-src": "'self'",
});

const pageHeaders = createHtmlHeaders(MARKDOWN_PATH, pagePolicy);

const page = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Parley API</title>
<link rel="icon" href="data:,">
<link rel="alternate" type="text/markdown" href="${MARKDOWN_PATH}">
<body>
<script id="api-reference" type="application/json" data-url="${DOCUMENT_PATH}"
  data-configuration="${escapeHtml(JSON.stringify(scalarSettings))}"></script>
<script src="${SCRIPT_PATH}"></script>
</body>
</html>
`;

/**
 * Creates the routes of the OpenAPI 3.0.3 document (`/swagger/json`), its page (`/swagger`) and its Markdown version
 * (`/swagger.md`). The page needs no internet access.
 */
export function createDocsRoutes(documentedRoutes: readonly Route[]): Route[] {
  let document: Promise<CompressedText> | undefined;
  const getCompressedScript = createFileCompressor(scalarPath);
  const commonOptions = { method: "GET", tag: "operations", public: true, isHidden: true } as const;

  let markdown: Promise<CompressedText> | undefined;

  const createDocument = async () =>
    createCompressedText(JSON.stringify(await createOpenApiDocument(documentedRoutes, build.version)));

  async function respondWithMarkdown(request: Request) {
    document ??= createDocument();
    const { text } = await document;
    markdown ??= createCompressedText(renderOpenApiMarkdown(JSON.parse(text)));
    return respondWithText(request, await markdown, markdownHeaders);
  }

  return [
    route({
      ...commonOptions,
      path: DOCUMENT_PATH,
      operationId: "getOpenApi",
      summary: "The OpenAPI document",
      ok: Type.Unknown(),
      isTagged: true,
      handle: async ({ request }) => {
        document ??= createDocument();
        return respondWithText(request, await document, { "content-type": "application/json" });
      },
    }),
    route({
      ...commonOptions,
      path: PAGE_PATH,
      operationId: "showOpenApi",
      summary: "The OpenAPI document as a page",
      ok: Type.String(),
      handle: ({ request }) =>
        prefersMarkdown(request) ? respondWithMarkdown(request) : new Response(page, { headers: pageHeaders }),
    }),
    route({
      ...commonOptions,
      path: MARKDOWN_PATH,
      operationId: "getOpenApiMarkdown",
      summary: "The OpenAPI document as markdown",
      ok: Type.String(),
      isTagged: true,
      handle: ({ request }) => respondWithMarkdown(request),
    }),
    route({
      ...commonOptions,
      path: SCRIPT_PATH,
      operationId: "getOpenApiScript",
      summary: "The page's script",
      ok: Type.String(),
      handle: async ({ request }) => {
        const headers = {
          "content-type": "text/javascript; charset=utf-8",
          "cache-control": "public, max-age=31536000, immutable",
          vary: "Accept-Encoding, Origin",
        };
        if (!acceptsGzip(request)) return new Response(Bun.file(scalarPath), { headers });
        return new Response(await getCompressedScript(), { headers: { ...headers, "content-encoding": "gzip" } });
      },
    }),
  ];
}

/** Creates a function that returns a file's gzip-compressed bytes. The file is compressed on the first call. */
function createFileCompressor(path: string): () => Promise<Uint8Array<ArrayBuffer>> {
  let compressed: Promise<Uint8Array<ArrayBuffer>> | undefined;
  return () => {
    compressed ??= Bun.file(path)
      .arrayBuffer()
      .then((bytes) => compressGzip(new Uint8Array(bytes)));
    return compressed;
  };
}
