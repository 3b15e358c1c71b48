import type { JsonObject } from "../lib/json.ts";
import { describeStreams, describeWebhooks } from "./asyncapi/http-channels.ts";
import { createMessageList } from "./asyncapi/message-list.ts";
import { describeRealtime } from "./asyncapi/realtime-channel.ts";
import { httpSecurity, securitySchemes, socketSecurity } from "./asyncapi/security.ts";

const INFO = `Parley's WebSocket protocol, \`parley.v1\`, with its event streams and webhooks. Operations are described from the
server's side: it receives the frames of clients and sends pushes.

A client frame with an \`id\` receives an \`ack\` or an \`error\` with the same \`id\`. After \`subscribe\`, the server pushes events of
the conversation. Durable events have a gapless \`seq\` per conversation. After reconnecting, send the highest \`seq\` that you
have received as \`after_seq\`. Ephemeral events have no \`seq\` and are never replayed.

Ignore unknown fields and push types: later versions may add some.`;

/** The server's address for clients. */
export type PublicServer = {
  /** The host, and the port if it isn't the default. */
  host: string;
  /** The path prefix under which a proxy serves Parley, such as `/chat`. Usually empty. */
  pathname: string;
  /** Whether clients use TLS. */
  isSecure: boolean;
};

/**
 * Creates the AsyncAPI document of the WebSocket, event streams and webhooks, from the schemas that validate them. It doesn't
 * depend on the installation: the host is a variable.
 */
export function createAsyncApi({ version }: { version: string }): JsonObject {
  const messageList = createMessageList();
  const realtime = describeRealtime(messageList);
  const streams = describeStreams(messageList);
  const webhooks = describeWebhooks(messageList);
  return {
    asyncapi: "3.0.0",
    info: {
      title: "Parley",
      version,
      description: INFO,
      license: { name: "MIT" },
      tags: [{ name: "realtime", description: "Conversations over a WebSocket." }],
    },
    defaultContentType: "application/json",
    servers: describeServers(undefined),
    channels: { realtime: realtime.channel, ...streams.channels, ...webhooks.channels },
    operations: { ...realtime.operations, ...streams.operations, ...webhooks.operations },
    components: {
      messages: messageList.listMessages(),
      schemas: messageList.listSchemas(),
      securitySchemes,
      correlationIds: {
        frame: { description: "The `id` that the client chose.", location: "$message.payload#/id" },
      },
    },
  };
}

/** Returns the document with a specific server. */
export const setAsyncApiServer = (document: JsonObject, server: PublicServer): JsonObject => ({
  ...document,
  servers: describeServers(server),
});

function describeServers(server: PublicServer | undefined): JsonObject {
  const { host, pathname, isSecure } = server ?? { host: "{host}", pathname: "", isSecure: true };
  const commonFields = {
    host,
    pathname: pathname || "/",
    ...(!server && {
      variables: {
        host: { default: "chat.example.com", description: "The host, and the port if it isn't the default." },
      },
    }),
  };
  return {
    parley: {
      ...commonFields,
      protocol: isSecure ? "wss" : "ws",
      description: server ? "This server." : "Your Parley server; use `ws` if it is served without TLS.",
      security: socketSecurity,
    },
    http: {
      ...commonFields,
      protocol: isSecure ? "https" : "http",
      description: "The same server over HTTP: event streams. It also sends the webhooks.",
      security: httpSecurity,
    },
  };
}
