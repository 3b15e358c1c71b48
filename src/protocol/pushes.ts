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

/** The `id` of the client frame that is answered. */
const id = Type.String();

const ack = <T extends ClientFrameType, P extends Record<string, TSchema>>(to: T, description: string, body: P) =>
  Named(`${mapTypeToName(to)}Ack`, Closed({ type: Type.Literal("ack"), id, ...body }, { description }));

/** What a client frame is acknowledged with, by the type of that frame. The others are answered by `pong`, or not at all. */
export const acks = {
  auth: ack("auth", "The credential is accepted.", {
    expires_at: Nullable(Timestamp(), { description: "When the credential expires; null: never." }),
  }),
  subscribe: ack("subscribe", "The subscription has begun: pushes follow from `last_seq` on.", {
    last_seq: Type.Integer({ minimum: 0 }),
    recovered: Type.Boolean({ description: "Whether `events` holds all that was missed; if not, read the history." }),
    events: Type.Array(Event),
    members_online: Type.Array(Uuid()),
  }),
  unsubscribe: ack("unsubscribe", "The subscription has ended.", {}),
  "message.send": ack("message.send", "The message is stored.", {
    message: Message,
    duplicate: Type.Boolean({ description: "Whether an earlier frame with this `client_message_id` stored it." }),
  }),
  "message.edit": ack("message.edit", "The message is changed.", { message: Message }),
  "message.delete": ack("message.delete", "The message is deleted.", {}),
  "generation.cancel": ack("generation.cancel", "The stop is stored; `message.completed` follows.", {
    message: Message,
  }),
  "generation.regenerate": ack("generation.regenerate", "A model writes this new, still empty response.", {
    message: Message,
  }),
  read: ack("read", "The read position is stored.", { last_read_seq: Type.Integer({ minimum: 0 }) }),
  "inbox.subscribe": ack("inbox.subscribe", "From here on `inbox` frames follow.", {
    unread: Type.Integer({
      minimum: 0,
      description: "Unread messages in all of your conversations together, counted up to 1000.",
    }),
  }),
  "inbox.unsubscribe": ack("inbox.unsubscribe", "No more `inbox` frames follow.", {}),
} as const;

export type AckedFrameType = keyof typeof acks;
export type Ack<T extends AckedFrameType = AckedFrameType> = { [K in T]: Static<(typeof acks)[K]> }[T];
/** What an ack says besides its type and its id. */
export type AckBody<T extends AckedFrameType = AckedFrameType> = { [K in T]: Omit<Ack<K>, "type" | "id"> }[T];

/** Limits that clients are told of; each with its unit in its name. */
const ConnectionLimits = Named(
  "ConnectionLimits",
  Closed({
    frame_bytes: Type.Integer({ description: "Of one frame of a client." }),
    content_chars: Type.Integer({ description: "Of a message's text, in UTF-16 units." }),
    subscriptions: Type.Integer({ description: "Of one connection, at a time." }),
    recovery_events: Type.Integer({ description: "Missed events that `subscribe` gives back." }),
    messages_in_flight: Type.Integer({ description: "Messages of one connection that are not acknowledged yet." }),
  }),
);

/** Everything that the server sends, by its type: over a socket all of it, in an event stream events, and `error` as its end. */
export const pushes = {
  ready: frame("ready", "The first frame, once the caller is known.", {
    connection_id: Uuid(),
    user: User,
    heartbeat_ms: Type.Integer({ description: "A connection that is quiet for longer is pinged." }),
    limits: ConnectionLimits,
    server_time: Timestamp(),
  }),
  ack: Named("Ack", Type.Union(Object.values(acks))),
  error: frame(
    "error",
    "A client frame was refused; the connection stays open. An event stream ends with it if the access of its reader ends.",
    {
      id: Nullable(Type.String(), {
        description: "Of the frame that was refused; null if it could not be read, and in an event stream.",
      }),
      code: OneOf(Object.keys(problemCodes) as ProblemCode[]),
      detail: Type.String({ description: "What happened this time, for people." }),
      temporary: Type.Boolean({ description: "Whether the same frame may succeed later." }),
      retry_after_ms: Type.Optional(Type.Integer({ minimum: 0 })),
      errors: Type.Optional(
        Type.Array(Named("InvalidField", Closed({ pointer: Type.String(), detail: Type.String() })), {
          description: "The invalid places, as JSON pointers.",
        }),
      ),
    },
  ),
  pong: frame("pong", "Answers a `ping`.", { id: Type.Optional(id) }),
  "server.draining": frame("server.draining", "This server is about to stop: reconnect after the given time.", {
    reconnect_after_ms: Type.Integer({ minimum: 0 }),
  }),
  inbox: frame("inbox", "A conversation in your list changed, also one that you have not subscribed to.", {
    conversation_id: Uuid(),
    change: OneOf(["added", "removed", "updated"], {
      description: "`removed`: you are no longer a member, or it was deleted; ignore the other fields.",
    }),
    title: Type.String(),
    last_seq: Type.Integer({ minimum: 0 }),
    last_read_seq: Type.Integer({ minimum: 0 }),
    unread: Type.Integer({ minimum: 0, description: "As in the list of conversations: counted up to 1000." }),
    updated_at: Timestamp(),
  }),
  ...durableEvents,
  ...ephemeralEvents,
} as const;

type PushType = keyof typeof pushes;
export type Push<T extends PushType = PushType> = { [K in T]: Static<(typeof pushes)[K]> }[T];

/** The error frame for a problem; `id` is that of the frame it answers, if it could be read. */
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
