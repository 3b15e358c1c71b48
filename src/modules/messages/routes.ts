import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import type { EventLog } from "../../events/log.ts";
import type { Authenticate } from "../../http/authenticate.ts";
import { acceptsEventStream } from "../../http/event-stream.ts";
import { findOperationId } from "../../http/idempotency.ts";
import { describe } from "../../http/openapi.ts";
import { createPage, Page, PageQuery, readPage } from "../../http/pagination.ts";
import { Problem } from "../../lib/problem.ts";
import { Nullable, QueryInteger, UuidParam } from "../../lib/schema.ts";
import { Event } from "../../protocol/events.ts";
import { Message } from "../../protocol/message.ts";
import type { ConversationService } from "../conversations/service.ts";
import {
  EditMessage,
  Feedback,
  GiveFeedback,
  MessageParams,
  mapParamsToKey,
  SendMessage,
  SentMessage,
} from "./model.ts";
import type { MessageService } from "./service.ts";
import type { Streams } from "./streams.ts";

const InConversation = Type.Object({ id: UuidParam() });
const seq = (description: string) => Type.Optional(QueryInteger({ minimum: 0, description }));
const HistoryQuery = Type.Object({
  ...PageQuery,
  before_seq: seq("The newest messages before this number."),
  after_seq: seq("The oldest messages after this number."),
});
const EventsQuery = Type.Object({ ...PageQuery, after_seq: seq("Events after this number.") });

type Dependencies = {
  messages: MessageService;
  conversations: ConversationService;
  events: EventLog;
  streams: Streams;
  authenticate: Authenticate;
};

/** `/api/v1/conversations/{id}/messages` and `…/events`. */
export function createMessageRoutes({ messages, conversations, events, streams, authenticate }: Dependencies) {
  return new Elysia({ name: "messages", prefix: "/api/v1/conversations/:id" })
    .use(authenticate)
    .post(
      "/messages",
      async ({ caller, params, body, request, server, set }) => {
        const input = nameMessage(body, findOperationId(request));
        const send = () => messages.send(caller, params.id, input);
        if (acceptsEventStream(request)) return streams.openReply(caller, params.id, send, request, server);
        const { message, reply } = await send();
        set.status = 201;
        set.headers.location = `/api/v1/conversations/${params.id}/messages/${message.id}`;
        return { message, reply };
      },
      {
        params: InConversation,
        body: SendMessage,
        ...describe({
          operationId: "sendMessage",
          scope: "messages:write",
          summary: "Send a message",
          description:
            "Answers when the message is committed. A model's answer is written after that: read it again, follow it " +
            "on a socket, or ask with `Accept: text/event-stream` to have it streamed.",
          tag: "messages",
          ok: SentMessage,
          status: 201,
          problems: [403, 429],
          idempotencyKey: "exact",
        }),
      },
    )
    .get(
      "/messages",
      async ({ caller, params, query, request, set }) => {
        await conversations.getPosition(caller, params.id);
        const { limit, after } = readPage(query, 2);
        const range = readRange(after, query);
        const { rows, fitting } = await messages.list(params.id, range, limit);
        const isForward = range.afterSeq !== undefined && range.beforeSeq === undefined;
        const cursorOf = ({ seq }: Message) => [isForward ? "after" : "before", String(seq)];
        const context = { request, headers: set.headers };
        const page = createPage(rows, Math.min(limit, fitting), cursorOf, (message) => message, context);
        // A page counts from where the list is read, but is shown in the order of the conversation.
        return isForward ? page : { ...page, data: page.data.reverse() };
      },
      {
        params: InConversation,
        query: HistoryQuery,
        ...describe({
          operationId: "listMessages",
          scope: "messages:read",
          summary: "The history, oldest first; without a position, its newest part",
          tag: "messages",
          ok: Page(Message),
        }),
      },
    )
    .get("/messages/:message_id", ({ caller, params }) => messages.get(caller, mapParamsToKey(params)), {
      params: MessageParams,
      ...describe({
        operationId: "getMessage",
        scope: "messages:read",
        summary: "Read a message",
        tag: "messages",
        ok: Message,
      }),
    })
    .patch(
      "/messages/:message_id",
      async ({ caller, params, body }) => {
        return messages.edit(caller, mapParamsToKey(params), body.content);
      },
      {
        params: MessageParams,
        body: EditMessage,
        ...describe({
          operationId: "editMessage",
          scope: "messages:write",
          summary: "Edit a message (its author)",
          tag: "messages",
          ok: Message,
          problems: [403, 409],
        }),
      },
    )
    .delete(
      "/messages/:message_id",
      async ({ caller, params, set }) => {
        await messages.remove(caller, mapParamsToKey(params));
        set.status = 204;
      },
      {
        params: MessageParams,
        ...describe({
          operationId: "deleteMessage",
          scope: "messages:write",
          summary: "Delete a message (its author, or an owner); a tombstone stays",
          tag: "messages",
          problems: [403, 409],
        }),
      },
    )
    .put(
      "/messages/:message_id/feedback",
      async ({ caller, params, body }) => {
        return messages.giveFeedback(caller, mapParamsToKey(params), body);
      },
      {
        params: MessageParams,
        body: GiveFeedback,
        ...describe({
          operationId: "giveFeedback",
          scope: "messages:write",
          summary: "Rate an answer of a model",
          tag: "messages",
          ok: Feedback,
          problems: [409],
        }),
      },
    )
    .get(
      "/events",
      async ({ caller, params, query, request, server, set }) => {
        if (acceptsEventStream(request)) {
          const afterSeq = readLastEventId(request) ?? query.after_seq;
          return streams.openFeed(caller, params.id, afterSeq, request, server);
        }
        const { lastSeq } = await conversations.getPosition(caller, params.id);
        const { limit, after } = readPage(query, 1);
        const afterSeq = readSeq(after?.[0]) ?? query.after_seq ?? 0;
        const { rows, fitting } = await events.list(params.id, afterSeq, lastSeq, limit + 1);
        const context = { request, headers: set.headers };
        const page = createPage(
          rows,
          Math.min(limit, fitting),
          ({ seq }) => [String(seq)],
          (event) => event,
          context,
        );
        return { ...page, last_seq: lastSeq };
      },
      {
        params: InConversation,
        query: EventsQuery,
        ...describe({
          operationId: "listEvents",
          scope: "messages:read",
          summary: "Durable events after a position; with `Accept: text/event-stream`, a live feed",
          description:
            "The feed honours `Last-Event-ID`. It replays up to 500 missed events (2 MiB of text), or none of more: then " +
            "the first `id` does not follow the last one. It ends with the access token, the session or the membership.",
          tag: "messages",
          ok: Type.Object({
            data: Type.Array(Event),
            next_cursor: Nullable(Type.String()),
            last_seq: Type.Integer({ description: "The newest number when this was read." }),
          }),
        }),
      },
    );
}

/** A message that is sent under an `Idempotency-Key` is named by it, so that whatever happens there is one of it. */
function nameMessage(input: SendMessage, operationId: string | undefined): SendMessage {
  return operationId === undefined ? input : { ...input, client_message_id: input.client_message_id ?? operationId };
}

const seqPattern = /^\d{1,16}$/;

type Range = { beforeSeq: number | undefined; afterSeq: number | undefined };

function readRange(cursor: string[] | null, query: { before_seq?: number; after_seq?: number }): Range {
  const range: Range = { beforeSeq: query.before_seq, afterSeq: query.after_seq };
  if (!cursor) return range;
  const [key, text] = cursor;
  const position = readSeq(text);
  if (key === "before") return { ...range, beforeSeq: position };
  if (key === "after") return { ...range, afterSeq: position };
  throw badCursor();
}

function readSeq(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const seq = Number(text);
  if (!seqPattern.test(text) || !Number.isSafeInteger(seq)) throw badCursor();
  return seq;
}

const badCursor = () => new Problem("bad_cursor", "The cursor is not one that this list gave out.");

function readLastEventId(request: Request): number | undefined {
  const header = request.headers.get("last-event-id");
  if (header === null || header === "") return undefined;
  const id = Number(header);
  if (!seqPattern.test(header) || !Number.isSafeInteger(id))
    throw new Problem("malformed", "Last-Event-ID is the `seq` of an event.");
  return id;
}
