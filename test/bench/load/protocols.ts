import { encodeText } from "./raw-socket.ts";

/** The kinds of frames from a server. */
export type FrameKind = "ack" | "push" | "ready" | "keepalive" | "other";

/** A server's protocol. Frames are classified by a few bytes instead of being parsed. */
export type Protocol = {
  path: string;
  createHeaders(token: string): Record<string, string>;
  /**
   * The frame to send when the connection opens, or null if the server sends the first frame. In both cases, the
   * server's first frame is classified as `ready`.
   */
  connectFrame: Buffer | null;
  /** Returns a frame that subscribes to a conversation. The server acknowledges it. */
  createSubscribeFrame(conversationId: string, n: number): Buffer;
  createSendFrame(conversationId: string, n: number, content: string): Buffer;
  classify(payload: Buffer): FrameKind;
  keepaliveFrame: Buffer;
};

const getCharCode = (text: string) => text.charCodeAt(0);
/** The index of the type's first letter in `{"type":"…`. */
const TYPE_INDEX = 9;

export const parley: Protocol = {
  path: "/realtime",
  createHeaders: (token) => ({ authorization: `Bearer ${token}`, "sec-websocket-protocol": "parley.v1" }),
  connectFrame: null,
  createSubscribeFrame: (conversation_id, n) =>
    encodeText(JSON.stringify({ type: "subscribe", id: `${n}`, conversation_id })),
  createSendFrame: (conversation_id, n, content) =>
    encodeText(
      JSON.stringify({
        type: "message.send",
        id: `${n}`,
        conversation_id,
        client_message_id: createClientMessageId(),
        content,
      }),
    ),
  classify(payload) {
    switch (payload[TYPE_INDEX]) {
      case getCharCode("a"):
        return "ack";
      case getCharCode("m"):
        return "push";
      case getCharCode("r"):
        return "ready";
      case getCharCode("e"):
        throw new Error(`Parley rejected a frame: ${payload}`);
      default:
        return "other";
    }
  },
  keepaliveFrame: encodeText('{"type":"ping"}'),
};

/** Socket.IO over Engine.IO 4: `40` connects, `42N[…]` is an event that requests an ack, and `43N[…]` is the ack. */
export const socketIo: Protocol = {
  path: "/socket.io/?EIO=4&transport=websocket",
  createHeaders: () => ({}),
  connectFrame: encodeText("40"),
  createSubscribeFrame: (conversationId, n) => encodeText(`42${n}${JSON.stringify(["subscribe", conversationId])}`),
  createSendFrame: (conversation_id, n, content) =>
    encodeText(
      `42${n}${JSON.stringify(["send", { conversation_id, client_message_id: createClientMessageId(), content }])}`,
    ),
  classify(payload) {
    if (payload[0] === getCharCode("2")) return "keepalive";
    if (payload[0] !== getCharCode("4")) return "other";
    switch (payload[1]) {
      case getCharCode("0"):
        return "ready";
      case getCharCode("2"):
        return "push";
      case getCharCode("3"):
        return "ack";
      default:
        throw new Error(`Socket.IO rejected a packet: ${payload}`);
    }
  },
  keepaliveFrame: encodeText("3"),
};

/** The bare server acknowledges each frame with `ack`, and publishes a fixed string that begins with `x`. */
export const bare: Protocol = {
  path: "/",
  createHeaders: () => ({}),
  connectFrame: encodeText("hello"),
  createSubscribeFrame: () => encodeText("subscribe"),
  createSendFrame: (_conversationId, _n, content) => encodeText(content),
  classify(payload) {
    if (payload[0] === getCharCode("a")) return "ack";
    return payload[0] === getCharCode("r") ? "ready" : "push";
  },
  keepaliveFrame: encodeText("hello"),
};

export const protocols = { parley, socketIo, bare };
export type ProtocolName = keyof typeof protocols;

// Makes ids unique across load processes. A message with an id that was already used would not be stored.
const idPrefix = Bun.randomUUIDv7().slice(-12);
let idCount = 0;

function createClientMessageId(): string {
  idCount += 1;
  return `${idPrefix}-${idCount}`;
}
