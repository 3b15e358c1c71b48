import type { TSchema } from "@sinclair/typebox";
import type { JsonObject } from "../lib/json.ts";
import { closeCodes } from "./close-codes.ts";
import { durableEvents, ephemeralEvents } from "./events.ts";
import { type ClientFrameType, clientFrames, FRAME_BYTES_MAX } from "./frames.ts";
import { mapTypeToName } from "./names.ts";
import { acks, pushes } from "./pushes.ts";
import { createSchemaList } from "./schema-list.ts";

const INFO = `Parley's WebSocket protocol, \`parley.v1\`. Operations are described from the server's side: it receives the frames of
clients and sends pushes.

A client frame with an \`id\` gets an \`ack\` or an \`error\` with the same \`id\`. After \`subscribe\`, the server pushes events of the
conversation. Durable events have a gapless \`seq\` per conversation: after reconnecting, send the highest
\`seq\` you have seen as \`after_seq\`. Ephemeral events have no \`seq\` and are never replayed.

Ignore unknown fields and push types: later versions may add some.`;

const CHANNEL = `Offer the subprotocol \`parley.v1\`. Each frame is one JSON object as text. Client frames are limited to
${FRAME_BYTES_MAX} bytes. Event streams over HTTP (\`text/event-stream\`) carry the same events.`;

/** Ways to authenticate; one is enough. */
const securitySchemes = {
  bearer: {
    type: "http",
    scheme: "bearer",
    description: "`Authorization: Bearer <access token or API key>`, for clients that can set headers.",
  },
  apiKey: {
    type: "httpApiKey",
    in: "header",
    name: "X-API-Key",
    description: "An API key. A service key acts for another user with the header `X-On-Behalf-Of: <user id>`.",
  },
  subprotocol: {
    type: "httpApiKey",
    in: "header",
    name: "Sec-WebSocket-Protocol",
    description:
      "For browsers: a second subprotocol after `parley.v1`, `base64url.bearer.` followed by the token in base64url without padding. " +
      "The server responds with `parley.v1` only.",
  },
  ticket: {
    type: "httpApiKey",
    in: "query",
    name: "ticket",
    description: "A ticket from `POST /api/v1/auth/ticket`. It works once, within 30 seconds.",
  },
  authFrame: {
    type: "apiKey",
    in: "password",
    description: "Connect without a credential, and send it in an `auth` frame within 10 seconds.",
  },
};

/** Creates the AsyncAPI document of the WebSocket, from the tables of client frames and pushes. */
export function createAsyncApi({ version }: { version: string }): JsonObject {
  const schemas = createSchemaList("#/components/schemas/");
  const messages: Record<string, JsonObject> = {};

  /** Adds a message. @returns its name in the document. */
  function add(schema: TSchema, type: string, title: string, isOpen: boolean): string {
    const name = schema.title ?? mapTypeToName(type);
    messages[name] = {
      name: type,
      title,
      ...(schema.description !== undefined && { summary: schema.description }),
      ...("id" in schema.properties && { correlationId: { $ref: "#/components/correlationIds/frame" } }),
      payload: schemas.add(schema, { isOpen }),
    };
    return name;
  }
  const addPushes = (table: Record<string, TSchema>) =>
    Object.entries(table).map(([type, schema]) => add(schema, type, type, true));

  const { ready, error, pong, inbox, "server.draining": draining } = pushes;
  const [errors, pongs] = [addPushes({ error }), addPushes({ pong })];
  const operations: Record<string, JsonObject> = {};
  for (const type of Object.keys(clientFrames) as ClientFrameType[]) {
    const acked = (acks as Partial<Record<ClientFrameType, TSchema>>)[type];
    const answers = acked ? [add(acked, "ack", `ack of ${type}`, true)] : type === "ping" ? pongs : [];
    operations[`receive${mapTypeToName(type)}`] = {
      action: "receive",
      ...about([add(clientFrames[type], type, type, false)]),
      summary: String(clientFrames[type].description),
      reply: about([...answers, ...errors]),
    };
  }
  const sends: [string, string, Record<string, TSchema>][] = [
    ["sendReady", "Confirms a connection once it is authenticated.", { ready }],
    ["sendEvents", "Tells subscribers what happened in a conversation, in order.", durableEvents],
    ["sendEphemeralEvents", "Sends subscribers transient events such as typing and presence.", ephemeralEvents],
    ["sendInbox", "Notifies an inbox of a change in any conversation of its user.", { inbox }],
    ["sendError", "Rejects an unreadable frame; its `id` may be null.", { error }],
    ["sendServerDraining", "Asks clients to reconnect before this server stops.", { "server.draining": draining }],
  ];
  for (const [name, summary, table] of sends)
    operations[name] = { action: "send", ...about(addPushes(table)), summary };

  const names = Object.keys(messages).sort();
  return {
    asyncapi: "3.0.0",
    info: { title: "Parley", version, description: INFO, license: { name: "MIT" } },
    defaultContentType: "application/json",
    servers: {
      parley: {
        host: "{host}",
        protocol: "wss",
        description: "Your Parley server; use `ws` if it is served without TLS.",
        variables: {
          host: { default: "chat.example.com", description: "The host, and the port if it isn't the default." },
        },
        security: Object.keys(securitySchemes).map((name) => ({ $ref: `#/components/securitySchemes/${name}` })),
      },
    },
    channels: {
      realtime: {
        address: "/realtime",
        title: "WebSocket",
        description: CHANNEL,
        messages: Object.fromEntries(names.map((name) => [name, { $ref: `#/components/messages/${name}` }])),
        bindings: { ws: { method: "GET", bindingVersion: "0.1.0" } },
        "x-close-codes": listCloseCodes(),
      },
    },
    operations,
    components: {
      messages: Object.fromEntries(names.map((name) => [name, messages[name] ?? {}])),
      schemas: schemas.all(),
      securitySchemes,
      correlationIds: {
        frame: { description: "The `id` that the client chose.", location: "$message.payload#/id" },
      },
    },
  };
}

/** References to messages of the channel, for operations and replies. */
const about = (names: string[]) => ({
  channel: { $ref: "#/channels/realtime" },
  messages: names.map((name) => ({ $ref: `#/channels/realtime/messages/${name}` })),
});

const listCloseCodes = () =>
  Object.entries(closeCodes).map(([name, { code, reason }]) => ({ code, name, reason, reconnect: code < 4500 }));
