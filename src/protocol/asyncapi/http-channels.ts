import type { TSchema } from "@sinclair/typebox";
import type { JsonObject } from "../../lib/json.ts";
import { durableEvents, ephemeralEvents } from "../events.ts";
import { STREAM_HEARTBEAT_MS } from "../limits.ts";
import { pushes } from "../pushes.ts";
import { webhookBodies } from "../webhook-bodies.ts";
import { createReferences, listMessageRefs, type MessageList } from "./message-list.ts";
import { findExample } from "./realtime-channel.ts";
import { webhookExamples } from "./webhook-examples.ts";

const STREAM = `Server-sent events: \`id: <seq>\` (durable events only), \`event: <type>\`, \`data: <the envelope as JSON>\`. A comment line
is sent every ${STREAM_HEARTBEAT_MS / 1000} seconds.`;

const FEED = `${STREAM} The stream ends when the reader loses access. Its last event is the reason: \`error\`, \`member.removed\` or
\`conversation.deleted\`. To continue after an event, send its id as \`Last-Event-ID\`.`;

const REPLY = `${STREAM} Send a message with \`Accept: text/event-stream\`. The events are the \`message.created\` of your message and of
the response, the response's text, and finally \`message.completed\`.`;

const WEBHOOKS = `Posted to the URL of your webhook, signed as in Standard Webhooks 1.0.0: \`webhook-id\`, \`webhook-timestamp\`,
\`webhook-signature\`. A 2xx status accepts the delivery.`;

const conversationId = { id: { description: "The id of the conversation." } };
const server = [{ $ref: "#/servers/http" }];

type ChannelsAndOperations = { channels: JsonObject; operations: JsonObject };

/** Describes the event streams: a conversation's live feed, and the response to a message. */
export function describeStreams(list: MessageList): ChannelsAndOperations {
  const addMessages = (table: Record<string, TSchema>) =>
    Object.entries(table).map(([type, schema]) => list.add(schema, { type, example: findExample(type), isOpen: true }));
  const messages = Object.fromEntries(Object.entries(pushes).filter(([type]) => type.startsWith("message.")));
  const endEvents = { error: pushes.error };
  const [feedMessages, replyMessages] = [
    addMessages({ ...durableEvents, ...ephemeralEvents, ...endEvents }),
    addMessages({ ...messages, ...endEvents }),
  ];
  const createChannel = (address: string, title: string, description: string, names: string[]) => ({
    address,
    title,
    description,
    servers: server,
    parameters: conversationId,
    messages: listMessageRefs(names),
  });
  return {
    channels: {
      events: createChannel("/api/v1/conversations/{id}/events", "Server-sent events", FEED, feedMessages),
      replies: createChannel("/api/v1/conversations/{id}/messages", "Streamed response", REPLY, replyMessages),
    },
    operations: {
      streamEvents: {
        action: "send",
        ...createReferences("events", feedMessages),
        summary: "Streams a conversation's events.",
        bindings: { http: { method: "GET", bindingVersion: "0.3.0" } },
      },
      streamReply: {
        action: "send",
        ...createReferences("replies", replyMessages),
        summary: "Streams a message and the response to it.",
        bindings: { http: { method: "POST", bindingVersion: "0.3.0" } },
      },
    },
  };
}

/** Describes the webhooks. They have no address, because users register their URLs. */
export function describeWebhooks(list: MessageList): ChannelsAndOperations {
  const names = Object.entries(webhookBodies).map(([type, schema]) => {
    const example = webhookExamples[type];
    if (!example) throw new Error(`protocol/asyncapi/webhook-examples.ts has no example of ${type}.`);
    return list.add(schema, { type, title: `webhook ${type}`, example, isOpen: true });
  });
  return {
    channels: {
      webhooks: {
        address: null,
        title: "Webhooks",
        description: WEBHOOKS,
        servers: server,
        messages: listMessageRefs(names),
      },
    },
    operations: {
      postWebhook: {
        action: "send",
        ...createReferences("webhooks", names),
        summary: "Posts an event to a webhook.",
        bindings: { http: { method: "POST", bindingVersion: "0.3.0" } },
      },
    },
  };
}
