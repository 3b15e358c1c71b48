import type { TSchema } from "@sinclair/typebox";
import type { JsonObject } from "../../lib/json.ts";
import { allowsReconnect, closeCodes } from "../close-codes.ts";
import { durableEvents, ephemeralEvents } from "../events.ts";
import { type ClientFrameType, clientFrames, FRAME_BYTES_MAX } from "../frames.ts";
import { realtimeLimits } from "../limits.ts";
import { mapTypeToName } from "../names.ts";
import { type AckedFrameType, acks, pushes } from "../pushes.ts";
import { ackExamples, frameExamples, pushExamples } from "./examples.ts";
import { createReferences, listMessageRefs, type MessageList } from "./message-list.ts";
import { handshake } from "./security.ts";

const CHANNEL = "realtime";
const DESCRIPTION = `Offer the subprotocol \`parley.v1\`. Each frame is one JSON object as text. Client frames are limited to
${FRAME_BYTES_MAX} bytes.`;

/** Describes the WebSocket channel and its operations: one for each client frame and each kind of push. */
export function describeRealtime(list: MessageList): { channel: JsonObject; operations: JsonObject } {
  const messageNames: string[] = [];
  const operations: JsonObject = {};

  function addMessage(schema: TSchema, options: Parameters<MessageList["add"]>[1]): string {
    const name = list.add(schema, options);
    messageNames.push(name);
    return name;
  }
  const addPushes = (table: Record<string, TSchema>) =>
    Object.entries(table).map(([type, schema]) =>
      addMessage(schema, { type, example: findExample(type), isOpen: true }),
    );

  function addReplies(type: ClientFrameType): string[] {
    if (type === "ping") return addPushes({ pong: pushes.pong });
    if (!isAcked(type)) return [];
    return [addMessage(acks[type], { type: "ack", title: `ack of ${type}`, example: ackExamples[type], isOpen: true })];
  }

  for (const type of Object.keys(clientFrames) as ClientFrameType[]) {
    const replies = addReplies(type);
    operations[`receive${mapTypeToName(type)}`] = {
      action: "receive",
      ...createReferences(CHANNEL, [
        addMessage(clientFrames[type], { type, example: frameExamples[type], isOpen: false }),
      ]),
      summary: String(clientFrames[type].description),
      reply: createReferences(CHANNEL, [...replies, ...addPushes({ error: pushes.error })]),
    };
  }
  const { ready, error, inbox, "server.draining": draining } = pushes;
  const sendOperations: [string, string, Record<string, TSchema>][] = [
    ["sendReady", "Confirms a connection once it is authenticated.", { ready }],
    ["sendEvents", "Sends a conversation's durable events to subscribers, in order.", durableEvents],
    ["sendEphemeralEvents", "Sends subscribers transient events such as typing and presence.", ephemeralEvents],
    ["sendInbox", "Notifies a user's inbox of a change in any of their conversations.", { inbox }],
    ["sendError", "Rejects an unreadable frame; its `id` may be null.", { error }],
    ["sendServerDraining", "Asks clients to reconnect before this server stops.", { "server.draining": draining }],
  ];
  for (const [name, summary, table] of sendOperations)
    operations[name] = { action: "send", ...createReferences(CHANNEL, addPushes(table)), summary };

  const channel = {
    address: "/realtime",
    title: "WebSocket",
    description: DESCRIPTION,
    servers: [{ $ref: "#/servers/parley" }],
    messages: listMessageRefs(messageNames),
    bindings: { ws: handshake },
    "x-close-codes": listCloseCodes(),
    "x-limits": Object.entries(realtimeLimits).map(([name, limit]) => ({ name, ...limit })),
  };
  return { channel, operations };
}

const isAcked = (type: ClientFrameType): type is AckedFrameType => Object.hasOwn(acks, type);

/** Finds the example of a push. @throws Error if there is none. */
export function findExample(type: string): object {
  const example = (pushExamples as Record<string, object>)[type];
  if (!example) throw new Error(`protocol/asyncapi/examples.ts has no example of ${type}.`);
  return example;
}

const listCloseCodes = (): JsonObject[] =>
  Object.entries(closeCodes).map(([name, { code, reason, remedy }]) => ({
    code,
    name,
    reason,
    reconnect: allowsReconnect(code),
    verdict: allowsReconnect(code) ? "reconnect with backoff" : "do not reconnect",
    remedy,
  }));
