import { Type } from "@sinclair/typebox";
import { BoundedCache } from "../../cache/bounded-cache.ts";
import type { Config } from "../../config.ts";
import { build } from "../../lib/build.ts";
import type { JsonObject } from "../../lib/json.ts";
import { addressAsyncApi, createAsyncApi } from "../../protocol/asyncapi.ts";
import { type CompressedText, createCompressedText, respondWithText } from "../compressed-text.ts";
import { createTwinHeaders, markdownHeaders, prefersMarkdown } from "../pages/markdown-twin.ts";
import { type Route, route } from "../route.ts";
import { findPublicServer } from "./public-server.ts";
import { renderAsyncApiMarkdown } from "./render-markdown.ts";
import { asyncApiPagePolicy, renderAsyncApiPage } from "./render-page.ts";

/** Texts that are kept: four for each host that clients use; with `PUBLIC_URL`, there is one. */
const TEXTS_KEPT_MAX = 32;

const forms = {
  json: (document: JsonObject) => JSON.stringify(document),
  yaml: (document: JsonObject) => Bun.YAML.stringify(document, null, 2),
  html: renderAsyncApiPage,
  markdown: renderAsyncApiMarkdown,
} as const;

const pageHeaders = createTwinHeaders("/asyncapi.md", asyncApiPagePolicy);

/**
 * `/asyncapi.json` and `/asyncapi.yaml`: AsyncAPI 3.0 of the WebSocket, event streams and webhooks.
 * `/asyncapi` and `/asyncapi.md`: its page.
 */
export function createAsyncApiRoutes(settings: Partial<Pick<Config, "PUBLIC_URL">>): Route[] {
  const texts = new BoundedCache<Promise<CompressedText>>({ max: TEXTS_KEPT_MAX });
  let document: JsonObject | undefined;
  const open = { method: "GET", tag: "operations", public: true, isHidden: true, isTagged: true } as const;

  async function respond(request: Request, form: keyof typeof forms, headers: Record<string, string>) {
    const server = findPublicServer(request, settings);
    const key = `${form} ${server.isSecure} ${server.host}`;
    let text = texts.get(key);
    if (!text) {
      document ??= createAsyncApi(build);
      text = createCompressedText(forms[form](addressAsyncApi(document, server)));
      texts.set(key, text);
    }
    return respondWithText(request, await text, headers);
  }

  return [
    route({
      ...open,
      path: "/asyncapi.json",
      operationId: "getAsyncApi",
      summary: "The AsyncAPI document",
      ok: Type.Unknown(),
      handle: ({ request }) => respond(request, "json", { "content-type": "application/json" }),
    }),
    route({
      ...open,
      path: "/asyncapi.yaml",
      operationId: "getAsyncApiYaml",
      summary: "The AsyncAPI document as YAML",
      ok: Type.String(),
      handle: ({ request }) => respond(request, "yaml", { "content-type": "application/yaml" }),
    }),
    route({
      ...open,
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
      ...open,
      path: "/asyncapi.md",
      operationId: "getAsyncApiMarkdown",
      summary: "The AsyncAPI document as markdown",
      ok: Type.String(),
      handle: ({ request }) => respond(request, "markdown", markdownHeaders),
    }),
  ];
}
