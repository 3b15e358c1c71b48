import { Type } from "@sinclair/typebox";
import { createPage, Page, PageQuery, parseIdCursor, parsePageQuery } from "../../http/pagination.ts";
import { type Route, route } from "../../http/route.ts";
import { UuidParam } from "../../lib/schema.ts";
import { ApiKey, CreateApiKey, CreatedApiKey } from "./model.ts";
import { type ApiKeyService, mapToApiKey } from "./service.ts";

const ApiKeyParams = Type.Object({ id: UuidParam() });

const API_KEYS = "/api/v1/api-keys";
const tag = "api-keys";
/** Requires a session, or a key with all of its owner's permissions. */
const scope = "admin";

type Dependencies = { apiKeys: ApiKeyService };

/** Creates the routes of `/api/v1/api-keys`: the caller's own keys. */
export const createApiKeyRoutes = ({ apiKeys }: Dependencies): Route[] => [
  route({
    method: "POST",
    path: API_KEYS,
    operationId: "createApiKey",
    summary: "Create an API key (shown only in this response)",
    tag,
    scope,
    body: CreateApiKey,
    ok: CreatedApiKey,
    status: 201,
    responseHeaders: ["Location"],
    handle: async ({ caller, body, set }) => {
      const key = await apiKeys.create(caller, body);
      set.headers.location = `${API_KEYS}/${key.id}`;
      return key;
    },
  }),

  route({
    method: "GET",
    path: API_KEYS,
    operationId: "listApiKeys",
    summary: "List my API keys, newest first",
    tag,
    scope,
    query: Type.Object(PageQuery),
    ok: Page(ApiKey),
    handle: async ({ caller, query, request, set }) => {
      const { limit, after } = parsePageQuery(query, 1);
      const rows = await apiKeys.list(caller, parseIdCursor(after), limit);
      return createPage(rows, limit, (row) => [row.id], mapToApiKey, { request, headers: set.headers });
    },
  }),

  route({
    method: "GET",
    path: `${API_KEYS}/:id`,
    operationId: "getApiKey",
    summary: "Get one of my API keys",
    tag,
    scope,
    params: ApiKeyParams,
    ok: ApiKey,
    handle: ({ caller, params }) => apiKeys.get(caller, params.id),
  }),

  route({
    method: "DELETE",
    path: `${API_KEYS}/:id`,
    operationId: "deleteApiKey",
    summary: "Delete one of my API keys and close its connections",
    tag,
    scope,
    params: ApiKeyParams,
    handle: ({ caller, params }) => apiKeys.remove(caller, params.id),
  }),
];
