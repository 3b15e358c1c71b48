import { Type } from "@sinclair/typebox";
import { BoundedCache } from "../../cache/bounded-cache.ts";
import type { Config } from "../../config.ts";
import { build } from "../../lib/build.ts";
import type { JsonObject } from "../../lib/json.ts";
import { addressAsyncApi, createAsyncApi } from "../../protocol/asyncapi.ts";
import { type CompressedText, createCompressedText, respondWithText } from "../compressed-text.ts";
import { type Route, route } from "../route.ts";
import { findPublicServer } from "./public-server.ts";

/** Texts that are kept: each host that clients use has three. */
const TEXTS_KEPT_MAX = 24;

const forms = {
  json: (document: JsonObject) => JSON.stringify(document),
  yaml: (document: JsonObject) => Bun.YAML.stringify(document, null, 2),
} as const;

/** `/asyncapi.json` and `/asyncapi.yaml`: AsyncAPI 3.0 of the WebSocket, event streams and webhooks. */
export function createAsyncApiRoutes(settings: Partial<Pick<Config, "PUBLIC_URL" | "TLS_CERT_FILE">>): Route[] {
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
  ];
}
