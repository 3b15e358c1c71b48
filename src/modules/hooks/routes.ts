import { Type } from "@sinclair/typebox";
import type { Config } from "../../config.ts";
import { getRawBody } from "../../http/body.ts";
import { createPage, Page, PageQuery, parsePageQuery } from "../../http/pagination.ts";
import { parseRequestUrl } from "../../http/request-url.ts";
import { type Route, route } from "../../http/route.ts";
import { UuidParam } from "../../lib/schema.ts";
import { SentMessage } from "../messages/model.ts";
import { HOOK_POST_PATH, type HookEntry } from "./entry.ts";
import { CreatedHook, CreateHook, Hook, HookPost, SlackPost } from "./model.ts";
import { mapRowToHook } from "./queries.ts";
import type { HookService } from "./service.ts";

const ConversationParams = Type.Object({ id: UuidParam() });
const HookParams = Type.Object({ id: UuidParam(), hook_id: UuidParam() });
/** Maximum length of the token parameter. It is much longer than a token, so that invalid tokens return 404. */
const TOKEN_CHARS_MAX = 16_384;
const TokenParams = Type.Object({ token: Type.String({ maxLength: TOKEN_CHARS_MAX }) });

const HOOKS = "/api/v1/conversations/:id/hooks";
const tag = "hooks";

type Dependencies = { hooks: HookService; hookEntry: HookEntry; config: Pick<Config, "PUBLIC_URL"> };

/** Creates the routes of `/api/v1/conversations/{id}/hooks`, and the route that programs post to. */
export const createHookRoutes = ({ hooks, hookEntry, config }: Dependencies): Route[] => [
  route({
    method: "POST",
    path: HOOKS,
    operationId: "createHook",
    summary: "Create an incoming hook (its URL is shown only in this response)",
    description:
      "Members with write access only. The hook's posts count against the caller's quota, and model responses are charged to " +
      "them. The hook stops working when their membership ends. An API key also needs `messages:write`, and must not expire.",
    tag,
    scope: "conversations:write",
    params: ConversationParams,
    body: CreateHook,
    ok: CreatedHook,
    status: 201,
    problems: [409],
    handle: ({ caller, params, body, request }) =>
      hooks.create(caller, params.id, body, config.PUBLIC_URL?.replace(/\/+$/, "") ?? parseRequestUrl(request).origin),
  }),

  route({
    method: "GET",
    path: HOOKS,
    operationId: "listHooks",
    summary: "List a conversation's hooks, oldest first (owners get all hooks, other members their own)",
    tag,
    scope: "conversations:read",
    params: ConversationParams,
    query: Type.Object(PageQuery),
    ok: Page(Hook),
    handle: async ({ caller, params, query, request, set }) => {
      const page = parsePageQuery(query, 1);
      const rows = await hooks.list(caller, params.id, page);
      return createPage(rows, page.limit, (row) => [row.id], mapRowToHook, { request, headers: set.headers });
    },
  }),

  route({
    method: "DELETE",
    path: `${HOOKS}/:hook_id`,
    operationId: "deleteHook",
    summary: "Delete a hook, but not its messages (owners and its creator)",
    tag,
    scope: "conversations:write",
    params: HookParams,
    handle: ({ caller, params }) => hooks.remove(caller, params.id, params.hook_id),
  }),

  route({
    method: "POST",
    path: HOOK_POST_PATH,
    operationId: "postToHook",
    summary: "Post a message through an incoming hook",
    description:
      "The token in the URL is the credential. Accepts Parley's JSON format, the format of Slack's incoming webhooks (also as a form's " +
      "`payload`), and plain text. The post is identified by `webhook-id` or, without it, by `Idempotency-Key`. A repeated post isn't " +
      "posted again.",
    tag,
    public: true,
    limit: "hooks_address",
    acceptsLargeBody: true,
    params: TokenParams,
    rawBody: {
      schema: Type.Union([HookPost, SlackPost]),
      mediaTypes: ["application/json", "application/x-www-form-urlencoded", "text/plain"],
    },
    ok: SentMessage,
    status: 201,
    responseHeaders: ["Location", "Idempotent-Replayed"],
    responses: {
      200: {
        description: "`ok`, for a post in Slack's format.",
        content: { "text/plain": { schema: { type: "string" } } },
      },
    },
    problems: [401, 403],
    handle: async ({ request, set }) => {
      const result = await hooks.post(hookEntry.getHook(request), request.headers, getRawBody(request));
      if (result.isRepeated) set.headers["idempotent-replayed"] = "true";
      if (result.isSlack) {
        set.status = 200;
        return new Response("ok", { headers: { "content-type": "text/plain; charset=utf-8" } });
      }
      const { message, reply } = result;
      set.headers.location = `/api/v1/conversations/${message.conversation_id}/messages/${message.id}`;
      return { message, reply };
    },
  }),
];
