import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import type { Authenticate } from "../../http/authenticate.ts";
import { hashTag, respondWithTag } from "../../http/etag.ts";
import { describe } from "../../http/openapi.ts";
import { createPage, Page, PageQuery, readPage } from "../../http/pagination.ts";
import { UuidParam } from "../../lib/schema.ts";
import { Conversation, Member, mapRowToMember } from "../../protocol/conversation.ts";
import { AddMember, ChangeConversation, CreateConversation } from "./model.ts";
import { mapRowToConversation } from "./queries.ts";
import type { ConversationService } from "./service.ts";

const ById = Type.Object({ id: UuidParam() });
const ByMember = Type.Object({ id: UuidParam(), user_id: UuidParam() });
const ListQuery = Type.Object(PageQuery);

type Dependencies = { conversations: ConversationService; authenticate: Authenticate };

/** `/api/v1/conversations` and the members below it. */
export function createConversationRoutes({ conversations, authenticate }: Dependencies) {
  return new Elysia({ name: "conversations", prefix: "/api/v1/conversations" })
    .use(authenticate)
    .post(
      "",
      async ({ caller, body, set }) => {
        const conversation = await conversations.create(caller, body);
        set.status = 201;
        set.headers.location = `/api/v1/conversations/${conversation.id}`;
        return conversation;
      },
      {
        body: CreateConversation,
        ...describe({
          operationId: "createConversation",
          scope: "conversations:write",
          summary: "Create a conversation; the caller becomes its owner",
          tag: "conversations",
          ok: Conversation,
          status: 201,
        }),
      },
    )
    .get(
      "",
      async ({ caller, query, request, set }) => {
        const page = readPage(query, 2);
        const rows = await conversations.list(caller, page);
        return createPage(rows, page.limit, (row) => [row.cursor, row.id], mapRowToConversation, {
          request,
          headers: set.headers,
        });
      },
      {
        query: ListQuery,
        ...describe({
          operationId: "listConversations",
          scope: "conversations:read",
          summary: "The caller's conversations, latest activity first",
          tag: "conversations",
          ok: Page(Conversation),
        }),
      },
    )
    .get(
      "/:id",
      async ({ caller, params, request }) => {
        const body = JSON.stringify(await conversations.get(caller, params.id));
        return respondWithTag(request, hashTag(body), body, { "content-type": "application/json" });
      },
      {
        params: ById,
        ...describe({
          operationId: "getConversation",
          scope: "conversations:read",
          summary: "Read a conversation",
          tag: "conversations",
          ok: Conversation,
        }),
      },
    )
    .patch("/:id", ({ caller, params, body }) => conversations.update(caller, params.id, body), {
      params: ById,
      body: ChangeConversation,
      ...describe({
        operationId: "changeConversation",
        scope: "conversations:write",
        summary: "Change title, model, reply mode or metadata (owners)",
        tag: "conversations",
        ok: Conversation,
        problems: [403],
      }),
    })
    .delete(
      "/:id",
      async ({ caller, params, set }) => {
        await conversations.remove(caller, params.id);
        set.status = 204;
      },
      {
        params: ById,
        ...describe({
          operationId: "deleteConversation",
          scope: "conversations:write",
          summary: "Delete a conversation with all its messages (owners)",
          tag: "conversations",
          problems: [403],
        }),
      },
    )
    .get(
      "/:id/members",
      async ({ caller, params, query, request, set }) => {
        const page = readPage(query, 1);
        const rows = await conversations.listMembers(caller, params.id, page);
        return createPage(rows, page.limit, (row) => [row.user_id], mapRowToMember, { request, headers: set.headers });
      },
      {
        params: ById,
        query: ListQuery,
        ...describe({
          operationId: "listMembers",
          scope: "conversations:read",
          summary: "Who is in the conversation",
          tag: "conversations",
          ok: Page(Member),
        }),
      },
    )
    .post(
      "/:id/members",
      async ({ caller, params, body, set }) => {
        const member = await conversations.addMember(caller, params.id, body);
        set.status = 201;
        return member;
      },
      {
        params: ById,
        body: AddMember,
        ...describe({
          operationId: "addMember",
          scope: "conversations:write",
          summary: "Add a user, or change a member's role (owners)",
          tag: "conversations",
          ok: Member,
          status: 201,
          problems: [403, 409],
        }),
      },
    )
    .delete(
      "/:id/members/:user_id",
      async ({ caller, params, set }) => {
        await conversations.removeMember(caller, params.id, params.user_id);
        set.status = 204;
      },
      {
        params: ByMember,
        ...describe({
          operationId: "removeMember",
          scope: "conversations:write",
          summary: "Remove a member (owners), or leave",
          tag: "conversations",
          problems: [403, 409],
        }),
      },
    );
}
