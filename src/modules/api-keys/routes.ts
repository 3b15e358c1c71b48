import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import type { Authenticate } from "../../http/authenticate.ts";
import { describe } from "../../http/openapi.ts";
import { createPage, Page, PageQuery, readPage } from "../../http/pagination.ts";
import { Problem } from "../../lib/problem.ts";
import { isUuid, UuidParam } from "../../lib/schema.ts";
import { ApiKey, CreateApiKey, CreatedApiKey } from "./model.ts";
import { type ApiKeyService, mapToApiKey } from "./service.ts";

const ById = Type.Object({ id: UuidParam() });
const tag = "api-keys";
/** With a session, or with a key that may do all that its owner may. */
const scope = "admin";

type Dependencies = { apiKeys: ApiKeyService; authenticate: Authenticate };

/** `/api/v1/api-keys`: the caller's own keys. */
export function createApiKeyRoutes({ apiKeys, authenticate }: Dependencies) {
  return new Elysia({ name: "api-keys", prefix: "/api/v1/api-keys" })
    .use(authenticate)
    .post(
      "/",
      async ({ caller, body, set }) => {
        const key = await apiKeys.create(caller, body);
        set.status = 201;
        set.headers.location = `/api/v1/api-keys/${key.id}`;
        set.headers["cache-control"] = "no-store";
        return key;
      },
      {
        body: CreateApiKey,
        ...describe({
          operationId: "createApiKey",
          scope,
          summary: "Create a key; this answer alone shows it",
          tag,
          ok: CreatedApiKey,
          status: 201,
          problems: [403, 409],
        }),
      },
    )
    .get(
      "/",
      async ({ caller, query, request, set }) => {
        const { limit, after } = readPage(query, 1);
        const [beforeId = null] = after ?? [];
        if (beforeId !== null && !isUuid(beforeId))
          throw new Problem("bad_cursor", "The cursor is not one that this list gave out.");
        const rows = await apiKeys.list(caller, beforeId, limit);
        return createPage(rows, limit, (row) => [row.id], mapToApiKey, { request, headers: set.headers });
      },
      {
        query: Type.Object(PageQuery),
        ...describe({ operationId: "listApiKeys", scope, summary: "My keys, newest first", tag, ok: Page(ApiKey) }),
      },
    )
    .get("/:id", ({ caller, params }) => apiKeys.get(caller, params.id), {
      params: ById,
      ...describe({ operationId: "getApiKey", scope, summary: "Read one of my keys", tag, ok: ApiKey }),
    })
    .delete(
      "/:id",
      async ({ caller, params, set }) => {
        await apiKeys.remove(caller, params.id);
        set.status = 204;
      },
      {
        params: ById,
        ...describe({
          operationId: "deleteApiKey",
          scope,
          summary: "Delete one of my keys, and end what is connected with it",
          tag,
        }),
      },
    );
}
