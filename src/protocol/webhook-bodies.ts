import { type TSchema, Type } from "@sinclair/typebox";
import { Closed, Named, Nullable, OneOf, Timestamp, Uuid } from "../lib/schema.ts";
import { type DurableEventType, durableEvents } from "./events.ts";
import { Message } from "./message.ts";
import { mapTypeToName } from "./names.ts";
import { User } from "./user.ts";

const CONTENT_TRUNCATED =
  "The body would have exceeded 20 kB. `reasoning` and `content` are truncated. If that was not enough, other long strings are truncated too, and other large values are null.";

/** The data of an event about a message, conversation or user that was deleted later. */
const Deleted = Closed({ id: Uuid() }, { description: "The message, conversation or user has been deleted." });

const WebhookMessage = Named(
  "WebhookMessage",
  Closed({
    ...Message.properties,
    content_truncated: Type.Optional(Type.Literal(true, { description: CONTENT_TRUNCATED })),
  }),
);

const createBodySchema = (type: string, description: string, properties: Record<string, TSchema>) =>
  Named(`${mapTypeToName(type)}Webhook`, Closed({ type: Type.Literal(type), ...properties }, { description }));

const timestamp = Timestamp({
  description: "When the event happened. The header `webhook-timestamp` is the time of the delivery attempt.",
});

/** Creates the schema for a durable event. It is the same as on the WebSocket, but with `timestamp` instead of `at`. */
const createEventBody = (type: DurableEventType) => {
  const { description, properties } = durableEvents[type];
  const data = properties.data as TSchema;
  return createBodySchema(type, String(description), {
    timestamp,
    conversation_id: Uuid(),
    seq: properties.seq,
    data: data === Message ? Type.Union([WebhookMessage, Deleted]) : Type.Union([data, Deleted]),
  });
};

/** Bodies for events that aren't in a conversation's event log. */
const systemBodies = {
  "generation.failed": createBodySchema("generation.failed", "Every model failed to write a response.", {
    timestamp,
    conversation_id: Uuid(),
    data: Closed({
      generation_id: Uuid(),
      message_id: Uuid(),
      model: Nullable(Type.String()),
      error: Closed({ code: Type.String(), detail: Type.String() }),
    }),
  }),
  "user.created": createBodySchema("user.created", "An account was created.", {
    timestamp,
    data: Type.Union([User, Deleted]),
  }),
  "user.deleted": createBodySchema("user.deleted", "An account was deleted.", {
    timestamp,
    data: Closed({ id: Uuid() }),
  }),
  "budget.exceeded": createBodySchema("budget.exceeded", "A budget is used up.", {
    timestamp,
    data: Closed({
      user_id: Uuid(),
      api_key_id: Nullable(Uuid(), {
        description: "The API key whose budget is used up. Null if it is the user's budget.",
      }),
      period: OneOf(["day", "month"]),
      starts_at: Timestamp(),
      ends_at: Timestamp(),
      spent_tokens: Type.Integer(),
      limit_tokens: Nullable(Type.Integer()),
      spent_usd: Type.Number(),
      limit_usd: Nullable(Type.Number()),
    }),
  }),
  "webhook.disabled": createBodySchema("webhook.disabled", "One of your webhooks was disabled.", {
    timestamp,
    data: Closed({
      webhook_id: Uuid(),
      reason: OneOf(["gone", "exhausted", "user"], {
        description:
          "`gone`: the receiver responded with 410. `exhausted`: every attempt failed. `user`: its owner disabled it.",
      }),
    }),
  }),
  "webhook.test": createBodySchema("webhook.test", "A test, requested with `POST /api/v1/webhooks/{id}/test`.", {
    timestamp,
    data: Closed({ webhook_id: Uuid() }),
  }),
} as const;

/** The schemas of all webhook bodies, by type. */
export const webhookBodies: Readonly<Record<string, TSchema>> = {
  ...Object.fromEntries(
    (Object.keys(durableEvents) as DurableEventType[]).map((type) => [type, createEventBody(type)]),
  ),
  ...systemBodies,
};
