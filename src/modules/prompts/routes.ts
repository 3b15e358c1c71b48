import { Type } from "@sinclair/typebox";
import type { Caller } from "../../access/caller.ts";
import { parsePrecondition, setETag } from "../../http/etag.ts";
import { createPage, Page, PageQuery, parsePageQuery } from "../../http/pagination.ts";
import { createPromptsTag, createTaggedBody, type ReadCache } from "../../http/read-cache.ts";
import { type Route, route } from "../../http/route.ts";
import { QueryInteger, UuidParam } from "../../lib/schema.ts";
import { ChangePrompt, CreatePrompt, Prompt, PromptVersion } from "./model.ts";
import { mapToPrompt, mapToVersion } from "./queries.ts";
import type { PromptService } from "./service.ts";

const PromptParams = Type.Object({ id: UuidParam() });
const VersionParams = Type.Object({ id: UuidParam(), version: QueryInteger({ minimum: 1, maximum: 2 ** 31 - 1 }) });
const ListQuery = Type.Object(PageQuery);

const PROMPTS = "/api/v1/prompts";
const tag = "prompts";

type Dependencies = { prompts: PromptService; reads: ReadCache };

const createCacheTag = ({ user }: Caller): string => createPromptsTag(user.id);

/** Creates the routes of `/api/v1/prompts`. */
export const createPromptRoutes = ({ prompts, reads }: Dependencies): Route[] => [
  route({
    method: "POST",
    path: PROMPTS,
    operationId: "createPrompt",
    summary: "Create a system prompt template",
    tag,
    scope: "conversations:write",
    acceptsLargeBody: true,
    body: CreatePrompt,
    ok: Prompt,
    status: 201,
    responseHeaders: ["Location"],
    handle: async ({ caller, body, set }) => {
      const prompt = await prompts.create(caller, body);
      set.headers.location = `${PROMPTS}/${prompt.id}`;
      return prompt;
    },
  }),

  route({
    method: "GET",
    path: PROMPTS,
    operationId: "listPrompts",
    summary: "List your prompts, newest first",
    tag,
    scope: "conversations:read",
    query: ListQuery,
    ok: Page(Prompt),
    isTagged: true,
    handle: ({ caller, query, request }) =>
      reads.respond(request, {
        cache: "prompts",
        subject: caller.user.id,
        tags: [createCacheTag(caller)],
        async load() {
          const page = parsePageQuery(query, 1);
          const rows = await prompts.list(caller, page);
          const headers: { link?: string } = {};
          const list = createPage(rows, page.limit, (row) => [row.id], mapToPrompt, { request, headers });
          return { value: createTaggedBody(list, headers.link) };
        },
      }),
  }),

  route({
    method: "GET",
    path: `${PROMPTS}/:id`,
    operationId: "getPrompt",
    summary: "Get a prompt",
    tag,
    scope: "conversations:read",
    params: PromptParams,
    ok: Prompt,
    isTagged: true,
    handle: ({ caller, params, request }) =>
      reads.respond(request, {
        cache: "prompt",
        subject: `${caller.user.id} ${params.id}`,
        tags: [createCacheTag(caller)],
        load: async () => ({ value: createTaggedBody(await prompts.get(caller, params.id)) }),
      }),
  }),

  route({
    method: "PATCH",
    path: `${PROMPTS}/:id`,
    operationId: "changePrompt",
    summary: "Change a prompt; a changed template becomes a new version",
    tag,
    scope: "conversations:write",
    acceptsLargeBody: true,
    params: PromptParams,
    body: ChangePrompt,
    ok: Prompt,
    supportsIfMatch: true,
    handle: async ({ caller, params, body, request, set }) =>
      setETag(set.headers, await prompts.change(caller, params.id, body, parsePrecondition(request))),
  }),

  route({
    method: "DELETE",
    path: `${PROMPTS}/:id`,
    operationId: "deletePrompt",
    summary: "Delete a prompt; conversations that use it continue without one",
    tag,
    scope: "conversations:write",
    params: PromptParams,
    supportsIfMatch: true,
    handle: ({ caller, params, request }) => prompts.remove(caller, params.id, parsePrecondition(request)),
  }),

  route({
    method: "GET",
    path: `${PROMPTS}/:id/versions`,
    operationId: "listPromptVersions",
    summary: "List the versions of a prompt, newest first",
    tag,
    scope: "conversations:read",
    params: PromptParams,
    query: ListQuery,
    ok: Page(PromptVersion),
    handle: async ({ caller, params, query, request, set }) => {
      const page = parsePageQuery(query, 1);
      const rows = await prompts.listVersions(caller, params.id, page);
      const context = { request, headers: set.headers };
      return createPage(rows, page.limit, (row) => [String(row.version)], mapToVersion, context);
    },
  }),

  route({
    method: "DELETE",
    path: `${PROMPTS}/:id/versions/:version`,
    operationId: "deletePromptVersion",
    summary: "Delete an older version of a prompt",
    tag,
    scope: "conversations:write",
    params: VersionParams,
    problems: [409],
    handle: ({ caller, params }) => prompts.removeVersion(caller, params.id, params.version),
  }),
];
