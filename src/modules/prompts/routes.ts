import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import type { Authenticate } from "../../http/authenticate.ts";
import { hashTag, respondWithTag } from "../../http/etag.ts";
import { describe } from "../../http/openapi.ts";
import { createPage, Page, PageQuery, readPage } from "../../http/pagination.ts";
import { UuidParam } from "../../lib/schema.ts";
import { ChangePrompt, CreatePrompt, Prompt, PromptVersion } from "./model.ts";
import { mapToPrompt, mapToVersion } from "./queries.ts";
import type { PromptService } from "./service.ts";

const ById = Type.Object({ id: UuidParam() });
const ListQuery = Type.Object(PageQuery);
const tag = "prompts";

type Dependencies = { prompts: PromptService; authenticate: Authenticate };

/** `/api/v1/prompts`; their preview needs conversations and lies with the generations. */
export function createPromptRoutes({ prompts, authenticate }: Dependencies) {
  return new Elysia({ name: "prompts", prefix: "/api/v1/prompts" })
    .use(authenticate)
    .post(
      "/",
      async ({ caller, body, set }) => {
        const prompt = await prompts.create(caller, body);
        set.status = 201;
        set.headers.location = `/api/v1/prompts/${prompt.id}`;
        return prompt;
      },
      {
        body: CreatePrompt,
        ...describe({
          operationId: "createPrompt",
          scope: "conversations:write",
          summary: "Create a template of a system prompt",
          tag,
          ok: Prompt,
          status: 201,
          problems: [409],
        }),
      },
    )
    .get(
      "/",
      async ({ caller, query, request, set }) => {
        const page = readPage(query, 1);
        const rows = await prompts.list(caller, page);
        return createPage(rows, page.limit, (row) => [row.id], mapToPrompt, { request, headers: set.headers });
      },
      {
        query: ListQuery,
        ...describe({
          operationId: "listPrompts",
          scope: "conversations:read",
          summary: "The caller's prompts, newest first",
          tag,
          ok: Page(Prompt),
        }),
      },
    )
    .get(
      "/:id",
      async ({ caller, params, request }) => {
        const body = JSON.stringify(await prompts.get(caller, params.id));
        return respondWithTag(request, hashTag(body), body, { "content-type": "application/json" });
      },
      {
        params: ById,
        ...describe({
          operationId: "getPrompt",
          scope: "conversations:read",
          summary: "Read a prompt",
          tag,
          ok: Prompt,
        }),
      },
    )
    .patch("/:id", ({ caller, params, body }) => prompts.change(caller, params.id, body), {
      params: ById,
      body: ChangePrompt,
      ...describe({
        operationId: "changePrompt",
        scope: "conversations:write",
        summary: "Change a prompt; another template is a new version",
        tag,
        ok: Prompt,
      }),
    })
    .delete(
      "/:id",
      async ({ caller, params, set }) => {
        await prompts.remove(caller, params.id);
        set.status = 204;
      },
      {
        params: ById,
        ...describe({
          operationId: "deletePrompt",
          scope: "conversations:write",
          summary: "Delete a prompt; conversations that had it go on without one",
          tag,
        }),
      },
    )
    .get(
      "/:id/versions",
      async ({ caller, params, query, request, set }) => {
        const page = readPage(query, 1);
        const rows = await prompts.listVersions(caller, params.id, page);
        return createPage(rows, page.limit, (row) => [String(row.version)], mapToVersion, {
          request,
          headers: set.headers,
        });
      },
      {
        params: ById,
        query: ListQuery,
        ...describe({
          operationId: "listPromptVersions",
          scope: "conversations:read",
          summary: "The versions of a prompt, newest first",
          tag,
          ok: Page(PromptVersion),
        }),
      },
    );
}
