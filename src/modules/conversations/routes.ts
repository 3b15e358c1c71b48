import { Type } from "@sinclair/typebox";
import { hashTag, respondWithTag } from "../../http/etag.ts";
import { createPage, Page, PageQuery, readPage } from "../../http/pagination.ts";
import { type Route, route } from "../../http/route.ts";
import { UuidParam } from "../../lib/schema.ts";
import { Conversation, Member, mapRowToMember } from "../../protocol/conversation.ts";
import { AddMember, ChangeConversation, CreateConversation } from "./model.ts";
import { mapRowToConversation } from "./queries.ts";
import type { ConversationService } from "./service.ts";

const ById = Type.Object({ id: UuidParam() });
const ByMember = Type.Object({ id: UuidParam(), user_id: UuidParam() });
const ListQuery = Type.Object(PageQuery);

const CONVERSATIONS = "/api/v1/conversations";
const tag = "conversations";

type Dependencies = { conversations: ConversationService };

/** `/api/v1/conversations` and the members below it. */
export const createConversationRoutes = ({ conversations }: Dependencies): Route[] => [
  route({
    method: "POST",
    path: CONVERSATIONS,
    operationId: "createConversation",
    summary: "Create a conversation; the caller becomes its owner",
    tag,
    scope: "conversations:write",
    takesLargeBody: true,
    body: CreateConversation,
    ok: Conversation,
    status: 201,
    answerHeaders: ["Location"],
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
    summary: "The caller's conversations, latest activity first",
    tag,
    scope: "conversations:read",
    query: ListQuery,
    ok: Page(Conversation),
    handle: async ({ caller, query, request, set }) => {
      const page = readPage(query, 2);
      const rows = await conversations.list(caller, page);
      const context = { request, headers: set.headers };
      return createPage(rows, page.limit, (row) => [row.cursor, row.id], mapRowToConversation, context);
    },
  }),

  route({
    method: "GET",
    path: `${CONVERSATIONS}/:id`,
    operationId: "getConversation",
    summary: "Read a conversation",
    tag,
    scope: "conversations:read",
    params: ById,
    ok: Conversation,
    isTagged: true,
    handle: async ({ caller, params, request }) => {
      const body = JSON.stringify(await conversations.get(caller, params.id));
      return respondWithTag(request, hashTag(body), body, { "content-type": "application/json" });
    },
  }),

  route({
    method: "PATCH",
    path: `${CONVERSATIONS}/:id`,
    operationId: "changeConversation",
    summary: "Change title, model, reply mode or metadata (owners)",
    tag,
    scope: "conversations:write",
    takesLargeBody: true,
    params: ById,
    body: ChangeConversation,
    ok: Conversation,
    handle: ({ caller, params, body }) => conversations.update(caller, params.id, body),
  }),

  route({
    method: "DELETE",
    path: `${CONVERSATIONS}/:id`,
    operationId: "deleteConversation",
    summary: "Delete a conversation with all its messages (owners)",
    tag,
    scope: "conversations:write",
    params: ById,
    handle: ({ caller, params }) => conversations.remove(caller, params.id),
  }),

  route({
    method: "GET",
    path: `${CONVERSATIONS}/:id/members`,
    operationId: "listMembers",
    summary: "Who is in the conversation",
    tag,
    scope: "conversations:read",
    params: ById,
    query: ListQuery,
    ok: Page(Member),
    handle: async ({ caller, params, query, request, set }) => {
      const page = readPage(query, 1);
      const rows = await conversations.listMembers(caller, params.id, page);
      return createPage(rows, page.limit, (row) => [row.user_id], mapRowToMember, { request, headers: set.headers });
    },
  }),

  route({
    method: "POST",
    path: `${CONVERSATIONS}/:id/members`,
    operationId: "addMember",
    summary: "Add a user, or change a member's role (owners)",
    tag,
    scope: "conversations:write",
    params: ById,
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
    params: ByMember,
    problems: [409],
    handle: ({ caller, params }) => conversations.removeMember(caller, params.id, params.user_id),
  }),
];
