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

/** Maximum number of cached texts: four per host. Clients may use several hosts unless `PUBLIC_URL` is set. */
const CACHED_TEXTS_MAX = 32;

const renderers = {
  json: (document: JsonObject) => JSON.stringify(document),
  yaml: (document: JsonObject) => Bun.YAML.stringify(document, null, 2),
  html: renderAsyncApiPage,
  markdown: renderAsyncApiMarkdown,
} as const;

const pageHeaders = createHtmlHeaders("/asyncapi.md", asyncApiPagePolicy);

/**
 * Creates the routes of the AsyncAPI 3.0 document (`/asyncapi.json` and `/asyncapi.yaml`), which describes the WebSocket,
 * event streams and webhooks, and of its page (`/asyncapi` and `/asyncapi.md`).
 */
export function createAsyncApiRoutes(settings: Partial<Pick<Config, "PUBLIC_URL">>): Route[] {
  const texts = new BoundedCache<Promise<CompressedText>>({ max: CACHED_TEXTS_MAX });
  let document: JsonObject | undefined;
  const shared = { method: "GET", tag: "operations", public: true, isHidden: true, isTagged: true } as const;

  async function respond(request: Request, format: keyof typeof renderers, headers: Record<string, string>) {
    const server = findPublicServer(request, settings);
    const key = `${format} ${server.isSecure} ${server.host}`;
    let text = texts.get(key);
    if (!text) {
      document ??= createAsyncApi(build);
      text = createCompressedText(renderers[format](setAsyncApiServer(document, server)));
      texts.set(key, text);
    }
    return respondWithText(request, await text, headers);
  }

  return [
    route({
      ...shared,
      path: "/asyncapi.json",
      operationId: "getAsyncApi",
      summary: "The AsyncAPI document",
      ok: Type.Unknown(),
      handle: ({ request }) => respond(request, "json", { "content-type": "application/json" }),
    }),
    route({
      ...shared,
      path: "/asyncapi.yaml",
      operationId: "getAsyncApiYaml",
      summary: "The AsyncAPI document as YAML",
      ok: Type.String(),
      handle: ({ request }) => respond(request, "yaml", { "content-type": "application/yaml" }),
    }),
    route({
      ...shared,
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
      ...shared,
      path: "/asyncapi.md",
      operationId: "getAsyncApiMarkdown",
      summary: "The AsyncAPI document as markdown",
      ok: Type.String(),
      handle: ({ request }) => respond(request, "markdown", markdownHeaders),
    }),
  ];
}
