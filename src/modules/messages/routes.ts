import { Type } from "@sinclair/typebox";
import type { EventLog } from "../../events/log.ts";
import { acceptsEventStream } from "../../http/event-stream.ts";
import { findOperationId } from "../../http/idempotency.ts";
import { createPage, Page, PageQuery, parsePageQuery } from "../../http/pagination.ts";
import type { ReadCache } from "../../http/read-cache.ts";
import { type Route, route } from "../../http/route.ts";
import { Problem } from "../../lib/problem.ts";
import { Named, Nullable, QueryInteger, UuidParam } from "../../lib/schema.ts";
import { type DurableEvent, Event } from "../../protocol/events.ts";
import { Message } from "../../protocol/message.ts";
import type { ConversationService } from "../conversations/service.ts";
import type { History } from "./history.ts";
import { EditMessage, Feedback, GiveFeedback, MessageParams, SendMessage, SentMessage } from "./model.ts";
import { parseSeq, SEQ_PATTERN } from "./range.ts";
import type { MessageService, Streams } from "./service.ts";

const ConversationParams = Type.Object({ id: UuidParam() });
const SeqQuery = (description: string) => Type.Optional(QueryInteger({ minimum: 0, description }));
const HistoryQuery = Type.Object({
  ...PageQuery,
  before_seq: SeqQuery("Messages before this `seq`, newest page first."),
  after_seq: SeqQuery("Messages after this `seq`."),
});
const EventsQuery = Type.Object({ ...PageQuery, after_seq: SeqQuery("Events after this `seq`.") });
const EventPage = Named(
  "EventPage",
  Type.Object({
    data: Type.Array(Event),
    next_cursor: Nullable(Type.String()),
    last_seq: Type.Integer({ description: "The newest `seq` when the page was read." }),
  }),
);

const MESSAGES = "/api/v1/conversations/:id/messages";
const tag = "messages";

type Dependencies = {
  messages: MessageService;
  conversations: ConversationService;
  events: EventLog;
  streams: Streams;
  history: History;
  reads: ReadCache;
};

/** Creates the routes `/api/v1/conversations/{id}/messages` and `…/events`. */
export const createMessageRoutes = ({
  messages,
  conversations,
  events,
  streams,
  history,
  reads,
}: Dependencies): Route[] => [
  route({
    method: "POST",
    path: MESSAGES,
    operationId: "sendMessage",
    summary: "Send a message",
    description:
      "Responds when the message is committed. A model's answer is written afterwards: poll its message, receive it " +
      "on a WebSocket, or send `Accept: text/event-stream` to stream it in this response.",
    tag,
    scope: "messages:write",
    idempotencyKey: "exact",
    acceptsLargeBody: true,
    params: ConversationParams,
    body: SendMessage,
    ok: SentMessage,
    status: 201,
    responseHeaders: ["Location"],
    stream:
      "`message.created` for the message and for its answer, the answer's text as `message.delta`, and `message.completed`.",
    handle: async ({ caller, params, body, request, server, set }) => {
      const input = setDefaultClientMessageId(body, findOperationId(request));
      const send = () => messages.send(caller, params.id, input);
      if (acceptsEventStream(request)) {
        set.status = 200;
        return streams.openReply(caller, params.id, send, request, server);
      }
      const { message, reply } = await send();
      set.headers.location = `/api/v1/conversations/${params.id}/messages/${message.id}`;
      return { message, reply };
    },
  }),

  route({
    method: "GET",
    path: MESSAGES,
    operationId: "listMessages",
    summary: "List messages, oldest first; by default, the newest page",
    tag,
    scope: "messages:read",
    params: ConversationParams,
    query: HistoryQuery,
    ok: Page(Message),
    isTagged: true,
    handle: ({ caller, params, query, request }) =>
      reads.respond(request, {
        cache: "history",
        subject: `${caller.user.id} ${params.id}`,
        tags: [params.id],
        load: () => history.read(caller, params.id, query, request),
      }),
  }),

  route({
    method: "GET",
    path: `${MESSAGES}/:message_id`,
    operationId: "getMessage",
    summary: "Read a message",
    tag,
    scope: "messages:read",
    params: MessageParams,
    ok: Message,
    handle: ({ caller, params }) => messages.get(caller, params.id, params.message_id),
  }),

  route({
    method: "PATCH",
    path: `${MESSAGES}/:message_id`,
    operationId: "editMessage",
    summary: "Edit a message (author only)",
    tag,
    scope: "messages:write",
    acceptsLargeBody: true,
    params: MessageParams,
    body: EditMessage,
    ok: Message,
    problems: [409],
    handle: ({ caller, params, body }) => messages.edit(caller, params.id, params.message_id, body.content),
  }),

  route({
    method: "DELETE",
    path: `${MESSAGES}/:message_id`,
    operationId: "deleteMessage",
    summary: "Delete a message (author or owner), leaving a tombstone",
    tag,
    scope: "messages:write",
    params: MessageParams,
    problems: [409],
    handle: ({ caller, params }) => messages.remove(caller, params.id, params.message_id),
  }),

  route({
    method: "PUT",
    path: `${MESSAGES}/:message_id/feedback`,
    operationId: "giveFeedback",
    summary: "Rate a model's answer",
    tag,
    scope: "messages:write",
    params: MessageParams,
    body: GiveFeedback,
    ok: Feedback,
    problems: [409],
    handle: ({ caller, params, body }) => messages.giveFeedback(caller, params.id, params.message_id, body),
  }),

  route({
    method: "DELETE",
    path: `${MESSAGES}/:message_id/feedback`,
    operationId: "removeFeedback",
    summary: "Remove your rating of an answer",
    tag,
    scope: "messages:write",
    params: MessageParams,
    problems: [409],
    handle: ({ caller, params }) => messages.removeFeedback(caller, params.id, params.message_id),
  }),

  route({
    method: "GET",
    path: "/api/v1/conversations/:id/events",
    operationId: "listEvents",
    summary: "List durable events after a position, or stream a live feed with `Accept: text/event-stream`",
    description:
      "The feed honors `Last-Event-ID`. It replays missed events if there are at most 500 (2 MiB of text). Otherwise it replays " +
      "none, which leaves a gap before the first `id`. It ends when the access token expires, or when the session or the " +
      "membership ends.",
    tag,
    scope: "messages:read",
    params: ConversationParams,
    query: EventsQuery,
    ok: EventPage,
    stream: "Missed events, then the conversation's pushes.",
    handle: async ({ caller, params, query, request, server, set }) => {
      if (acceptsEventStream(request)) {
        const afterSeq = parseLastEventId(request) ?? query.after_seq;
        return streams.openFeed(caller, params.id, afterSeq, request, server);
      }
      const { lastSeq } = await conversations.getPosition(caller, params.id);
      const { limit, after } = parsePageQuery(query, 1);
      const afterSeq = parseSeq(after?.[0]) ?? query.after_seq ?? 0;
      const { rows, fittingCount } = await events.list(params.id, afterSeq, lastSeq, limit + 1);
      const createCursor = ({ seq }: DurableEvent) => [String(seq)];
      const context = { request, headers: set.headers };
      return {
        ...createPage(rows, Math.min(limit, fittingCount), createCursor, (event) => event, context),
        last_seq: lastSeq,
      };
    },
  }),
];

/** Uses an id derived from the `Idempotency-Key` as the default client message id, so that the message is stored once. */
function setDefaultClientMessageId(input: SendMessage, operationId: string | undefined): SendMessage {
  return operationId === undefined ? input : { ...input, client_message_id: input.client_message_id ?? operationId };
}

function parseLastEventId(request: Request): number | undefined {
  const header = request.headers.get("last-event-id");
  if (header === null || header === "") return undefined;
  const id = Number(header);
  if (!SEQ_PATTERN.test(header) || !Number.isSafeInteger(id))
    throw new Problem("malformed", "Last-Event-ID must be the `seq` of an event.");
  return id;
}
