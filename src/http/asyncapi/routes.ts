import { Type } from "@sinclair/typebox";
import { BoundedCache } from "../../cache/bounded-cache.ts";
import type { Config } from "../../config.ts";
import { build } from "../../lib/build.ts";
import type { JsonObject } from "../../lib/json.ts";
import { createAsyncApi, setAsyncApiServer } from "../../protocol/asyncapi.ts";
import { type CompressedText, createCompressedText, respondWithText } from "../compressed-text.ts";
import { createHtmlHeaders, markdownHeaders, prefersMarkdown } from "../pages/markdown-version.ts";
import { type Route, route } from "../route.ts";
import { findPublicServer } from "./public-server.ts";
import { renderAsyncApiMarkdown } from "./render-markdown.ts";
import { asyncApiPagePolicy, renderAsyncApiPage } from "./render-page.ts";

/** Maximum number of cached documents: four per host. Clients may use several hosts unless `PUBLIC_URL` is set. */
const CACHED_TEXTS_MAX = 32;

const renderers = {
  json: (document: JsonObject) => JSON.stringify(document),
  yaml: (document: JsonObject) => Bun.YAML.stringify(document, null, 2),
  html: renderAsyncApiPage,
  markdown: renderAsyncApiMarkdown,
} as const;

const pageHeaders = createHtmlHeaders("/asyncapi.md", asyncApiPagePolicy);

/**
 * Creates the routes of the AsyncAPI 3.0 document (`/asyncapi.json` and `/asyncapi.yaml`) and of its page (`/asyncapi` and
 * `/asyncapi.md`). The document describes the WebSocket, event streams and webhooks.
 */
export function createAsyncApiRoutes(settings: Partial<Pick<Config, "PUBLIC_URL">>): Route[] {
  const cachedTexts = new BoundedCache<Promise<CompressedText>>({ maxSize: CACHED_TEXTS_MAX });
  let document: JsonObject | undefined;
  const commonOptions = { method: "GET", tag: "operations", public: true, isHidden: true, isTagged: true } as const;

  async function respond(request: Request, format: keyof typeof renderers, headers: Record<string, string>) {
    const server = findPublicServer(request, settings);
    const key = `${format} ${server.isSecure} ${server.host}`;
    let text = cachedTexts.get(key);
    if (!text) {
      document ??= createAsyncApi(build);
      text = createCompressedText(renderers[format](setAsyncApiServer(document, server)));
      cachedTexts.set(key, text);
    }
    return respondWithText(request, await text, headers);
  }

  return [
    route({
      ...commonOptions,
      path: "/asyncapi.json",
      operationId: "getAsyncApi",
      summary: "The AsyncAPI document",
      ok: Type.Unknown(),
      handle: ({ request }) => respond(request, "json", { "content-type": "application/json" }),
    }),
    route({
      ...commonOptions,
      path: "/asyncapi.yaml",
      operationId: "getAsyncApiYaml",
      summary: "The AsyncAPI document as YAML",
      ok: Type.String(),
      handle: ({ request }) => respond(request, "yaml", { "content-type": "application/yaml" }),
    }),
    route({
      ...commonOptions,
      path: "/asyncapi",
      operationId: "showAsyncApi",
      summary: "The AsyncAPI document as a page",
      ok: Type.String(),
      handle: ({ request }) =>
        prefersMarkdown(request)
          ? respond(request, "markdown", markdownHeaders)
          : respond(request, "html", pageHeaders),
    }),
    route({
      ...commonOptions,
      path: "/asyncapi.md",
      operationId: "getAsyncApiMarkdown",
      summary: "The AsyncAPI document as markdown",
      ok: Type.String(),
      handle: ({ request }) => respond(request, "markdown", markdownHeaders),
    }),
  ];
}
