import { Type } from "@sinclair/typebox";
import { parsePrecondition, setETag } from "../../http/etag.ts";
import { createPage, Page, PageQuery, parsePageQuery } from "../../http/pagination.ts";
import { createTaggedBody, type ReadCache } from "../../http/read-cache.ts";
import { type Route, route } from "../../http/route.ts";
import { UuidParam } from "../../lib/schema.ts";
import { Conversation, Member, mapRowToMember } from "../../protocol/conversation.ts";
import { AddMember, ChangeConversation, CreateConversation } from "./model.ts";
import { mapRowToConversation } from "./queries.ts";
import type { ConversationService } from "./service.ts";

const ConversationParams = Type.Object({ id: UuidParam() });
const MemberParams = Type.Object({ id: UuidParam(), user_id: UuidParam() });
const ListQuery = Type.Object(PageQuery);

const CONVERSATIONS = "/api/v1/conversations";
const tag = "conversations";

/**
 * If a user has more conversations than this, the first page isn't cached. Any of the conversations may move to the first page, so the
 * page's cache entry has a tag for each of them.
 */
const CACHED_CONVERSATIONS_MAX = 500;

type Dependencies = { conversations: ConversationService; reads: ReadCache };

/** Creates the routes of `/api/v1/conversations`, including members. */
export const createConversationRoutes = ({ conversations, reads }: Dependencies): Route[] => [
  route({
    method: "POST",
    path: CONVERSATIONS,
    operationId: "createConversation",
    summary: "Create a conversation. The caller becomes its owner",
    tag,
    scope: "conversations:write",
    acceptsLargeBody: true,
    body: CreateConversation,
    ok: Conversation,
    status: 201,
    responseHeaders: ["Location"],
    handle: async ({ caller, body, set }) => {
      const conversation = await conversations.create(caller, body);
      set.headers.location = `${CONVERSATIONS}/${conversation.id}`;
      return conversation;
    },
  }),

  route({
    method: "GET",
    path: CONVERSATIONS,
    operationId: "listConversations",
    summary: "List your conversations, latest activity first",
    tag,
    scope: "conversations:read",
    query: ListQuery,
    ok: Page(Conversation),
    isTagged: true,
    handle: ({ caller, query, request }) =>
      reads.respond(request, {
        cache: "conversations",
        subject: caller.user.id,
        tags: [caller.user.id],
        canAddTags: true,
        async load(isKept) {
          const page = parsePageQuery(query, 2);
          const rows = await conversations.list(caller, page);
          const headers: { link?: string } = {};
          const getCursor = (row: (typeof rows)[number]) => [row.cursor, row.id];
          const list = createPage(rows, page.limit, getCursor, mapRowToConversation, { request, headers });
          const value = createTaggedBody(list, headers.link);
          if (!isKept || page.after) return { value, isUncacheable: true };
          if (list.next_cursor === null) return { value, tags: rows.map(({ id }) => id) };
          const ids = await conversations.listIds(caller, CACHED_CONVERSATIONS_MAX + 1);
          return { value, tags: ids, isUncacheable: ids.length > CACHED_CONVERSATIONS_MAX };
        },
      }),
  }),

  route({
    method: "GET",
    path: `${CONVERSATIONS}/:id`,
    operationId: "getConversation",
    summary: "Read a conversation",
    tag,
    scope: "conversations:read",
    params: ConversationParams,
    ok: Conversation,
    isTagged: true,
    handle: ({ caller, params, request }) =>
      reads.respond(request, {
        cache: "conversation",
        subject: `${caller.user.id} ${params.id}`,
        tags: [caller.user.id, params.id],
        load: async () => ({ value: createTaggedBody(await conversations.get(caller, params.id)) }),
      }),
  }),

  route({
    method: "PATCH",
    path: `${CONVERSATIONS}/:id`,
    operationId: "changeConversation",
    summary: "Change a conversation's settings or metadata (owners)",
    tag,
    scope: "conversations:write",
    acceptsLargeBody: true,
    params: ConversationParams,
    body: ChangeConversation,
    ok: Conversation,
    supportsIfMatch: true,
    handle: async ({ caller, params, body, request, set }) =>
      setETag(set.headers, await conversations.update(caller, params.id, body, parsePrecondition(request))),
  }),

  route({
    method: "DELETE",
    path: `${CONVERSATIONS}/:id`,
    operationId: "deleteConversation",
    summary: "Delete a conversation with all its messages (owners)",
    tag,
    scope: "conversations:write",
    params: ConversationParams,
    supportsIfMatch: true,
    handle: ({ caller, params, request }) => conversations.remove(caller, params.id, parsePrecondition(request)),
  }),

  route({
    method: "GET",
    path: `${CONVERSATIONS}/:id/members`,
    operationId: "listMembers",
    summary: "List the members of a conversation",
    tag,
    scope: "conversations:read",
    params: ConversationParams,
    query: ListQuery,
    ok: Page(Member),
    isTagged: true,
    handle: ({ caller, params, query, request }) =>
      reads.respond(request, {
        cache: "members",
        subject: `${caller.user.id} ${params.id}`,
        tags: [params.id],
        canAddTags: true,
        async load() {
          const page = parsePageQuery(query, 1);
          const rows = await conversations.listMembers(caller, params.id, page);
          const headers: { link?: string } = {};
          const list = createPage(rows, page.limit, (row) => [row.user_id], mapRowToMember, { request, headers });
          // Each member has their own read position.
          return { value: createTaggedBody(list, headers.link), tags: rows.map(({ user_id }) => user_id) };
        },
      }),
  }),

  route({
    method: "POST",
    path: `${CONVERSATIONS}/:id/members`,
    operationId: "addMember",
    summary: "Add a user, or change a member's role (owners)",
    description:
      "Identify the user by `user_id`, or by the exact `email`. An email address without an account returns 404 and counts against the login rate limit. With `MEMBER_BY_EMAIL=off`, `email` returns 403.",
    tag,
    scope: "conversations:write",
    params: ConversationParams,
    body: AddMember,
    ok: Member,
    status: 201,
    problems: [409],
    handle: ({ caller, params, body }) => conversations.addMember(caller, params.id, body),
  }),

  route({
    method: "DELETE",
    path: `${CONVERSATIONS}/:id/members/:user_id`,
    operationId: "removeMember",
    summary: "Remove a member (owners), or leave",
    tag,
    scope: "conversations:write",
    params: MemberParams,
    problems: [409],
    handle: ({ caller, params }) => conversations.removeMember(caller, params.id, params.user_id),
  }),
];
