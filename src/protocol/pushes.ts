import { type Static, type TSchema, Type } from "@sinclair/typebox";
import { type Problem, type ProblemCode, problemCodes } from "../lib/problem.ts";
import { Closed, Named, Nullable, OneOf, Timestamp, Uuid } from "../lib/schema.ts";
import { durableEvents, Event, ephemeralEvents } from "./events.ts";
import type { ClientFrameType } from "./frames.ts";
import { Message } from "./message.ts";
import { mapTypeToName } from "./names.ts";
import { User } from "./user.ts";

const frame = <T extends string, P extends Record<string, TSchema>>(type: T, description: string, properties: P) =>
  Named(`${mapTypeToName(type)}Frame`, Closed({ type: Type.Literal(type), ...properties }, { description }));

/** The `id` of the acknowledged client frame. */
const id = Type.String();

const ack = <T extends ClientFrameType, P extends Record<string, TSchema>>(
  frameType: T,
  description: string,
  body: P,
) => Named(`${mapTypeToName(frameType)}Ack`, Closed({ type: Type.Literal("ack"), id, ...body }, { description }));

/** Acknowledgements by the type of the client frame. Other frames receive a `pong` or no response. */
export const acks = {
  auth: ack("auth", "The credential was accepted.", {
    expires_at: Nullable(Timestamp(), { description: "When the credential expires. Null if it doesn't expire." }),
  }),
  subscribe: ack("subscribe", "The subscription has started. The pushes after `last_seq` follow.", {
    last_seq: Type.Integer({ minimum: 0 }),
    recovered: Type.Boolean({
      description: "Whether `events` contains all events that you missed. If not, read the history.",
    }),
    events: Type.Array(Event),
    members_online: Type.Array(Uuid()),
  }),
  unsubscribe: ack("unsubscribe", "The subscription has ended.", {}),
  "message.send": ack("message.send", "The message was stored.", {
    message: Message,
    duplicate: Type.Boolean({
      description: "Whether an earlier frame with this `client_message_id` has already stored the message.",
    }),
  }),
  "message.edit": ack("message.edit", "The message was changed.", { message: Message }),
  "message.delete": ack("message.delete", "The message was deleted.", {}),
  "generation.cancel": ack("generation.cancel", "The cancellation was stored; `message.completed` follows.", {
    message: Message,
  }),
  "generation.regenerate": ack("generation.regenerate", "A model is writing this new, still empty response.", {
    message: Message,
  }),
  read: ack("read", "The read position was stored.", { last_read_seq: Type.Integer({ minimum: 0 }) }),
  "inbox.subscribe": ack("inbox.subscribe", "The subscription has started. `inbox` frames follow.", {
    unread: Type.Integer({
      minimum: 0,
      description: "Unread messages in all of your conversations, counted up to 1000.",
    }),
  }),
  "inbox.unsubscribe": ack("inbox.unsubscribe", "No more `inbox` frames follow.", {}),
} as const;

export type AckedFrameType = keyof typeof acks;
export type Ack<T extends AckedFrameType = AckedFrameType> = { [K in T]: Static<(typeof acks)[K]> }[T];
/** The fields of an ack other than its type and id. */
export type AckBody<T extends AckedFrameType = AckedFrameType> = { [K in T]: Omit<Ack<K>, "type" | "id"> }[T];

/** The limits reported to clients. */
const ConnectionLimits = Named(
  "ConnectionLimits",
  Closed({
    frame_bytes: Type.Integer({ description: "The maximum size of a client frame." }),
    content_chars: Type.Integer({ description: "The maximum length of a message's text, in UTF-16 code units." }),
    subscriptions: Type.Integer({ description: "The maximum number of concurrent subscriptions per connection." }),
    recovery_events: Type.Integer({ description: "The maximum number of missed events that `subscribe` returns." }),
    messages_in_flight: Type.Integer({ description: "The maximum number of unacknowledged messages per connection." }),
  }),
);

/** All frames that the server sends, by type. */
export const pushes = {
  ready: frame("ready", "The first frame after the connection is authenticated.", {
    connection_id: Uuid(),
    user: User,
    heartbeat_ms: Type.Integer({ description: "Idle time after which the connection is pinged." }),
    limits: ConnectionLimits,
    server_time: Timestamp(),
  }),
  ack: Named("Ack", Type.Union(Object.values(acks))),
  error: frame(
    "error",
    "A client frame was rejected. The connection stays open. In an event stream, this is the last event, sent when the reader loses access.",
    {
      id: Nullable(Type.String(), {
        description: "The id of the rejected frame. Null if the frame was unreadable, and in event streams.",
      }),
      code: OneOf(Object.keys(problemCodes) as ProblemCode[]),
      detail: Type.String({ description: "A human-readable explanation of this error." }),
      temporary: Type.Boolean({ description: "Whether the same frame may succeed later." }),
      retry_after_ms: Type.Optional(Type.Integer({ minimum: 0 })),
      errors: Type.Optional(
        Type.Array(Named("InvalidField", Closed({ pointer: Type.String(), detail: Type.String() })), {
          description: "The invalid fields, as JSON pointers.",
        }),
      ),
    },
  ),
  pong: frame("pong", "The response to a `ping`.", { id: Type.Optional(id) }),
  "server.draining": frame("server.draining", "This server will stop soon. Reconnect after the given time.", {
    reconnect_after_ms: Type.Integer({ minimum: 0 }),
  }),
  inbox: frame("inbox", "A conversation in your list changed, whether you have subscribed to it or not.", {
    conversation_id: Uuid(),
    change: OneOf(["added", "removed", "updated"], {
      description: "`removed`: you are no longer a member, or the conversation was deleted; ignore the other fields.",
    }),
    title: Type.String(),
    last_seq: Type.Integer({ minimum: 0 }),
    last_read_seq: Type.Integer({ minimum: 0 }),
    unread: Type.Integer({ minimum: 0, description: "As in the list of conversations, counted up to 1000." }),
    updated_at: Timestamp(),
  }),
  ...durableEvents,
  ...ephemeralEvents,
} as const;

export type PushType = keyof typeof pushes;
export type Push<T extends PushType = PushType> = { [K in T]: Static<(typeof pushes)[K]> }[T];

/** Creates the error frame for a problem. `id` is the rejected frame's id, or null if it is unknown. */
export function createErrorFrame(problem: Problem, id: string | null): Push<"error"> {
  return {
    type: "error",
    id,
    code: problem.code,
    detail: problem.message,
    temporary: problemCodes[problem.code].temporary,
    ...(problem.retryAfterMs !== undefined && { retry_after_ms: Math.ceil(problem.retryAfterMs) }),
    ...(problem.errors && { errors: problem.errors }),
  };
}
