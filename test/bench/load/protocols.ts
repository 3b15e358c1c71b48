import { encodeText } from "./raw-socket.ts";

/** The kinds of frames from a server. */
export type FrameKind = "ack" | "push" | "ready" | "keepalive" | "other";

/** A server's protocol. Frames are classified by a few bytes instead of being parsed. */
export type Protocol = {
  path: string;
  headers(token: string): Record<string, string>;
  /** The frame to send when the connection opens. The server's response, or its first frame, is `ready`. */
  connectFrame: Buffer | null;
  /** Returns a frame that subscribes to a conversation. The response is an ack. */
  subscribe(conversationId: string, n: number): Buffer;
  send(conversationId: string, n: number, content: string): Buffer;
  classify(payload: Buffer): FrameKind;
  keepalive: Buffer;
};

const charCode = (text: string) => text.charCodeAt(0);
/** The index of the type's first letter in `{"type":"…`. */
const TYPE_INDEX = 9;

export const parley: Protocol = {
  path: "/realtime",
  headers: (token) => ({ authorization: `Bearer ${token}`, "sec-websocket-protocol": "parley.v1" }),
  connectFrame: null,
  subscribe: (conversation_id, n) => encodeText(JSON.stringify({ type: "subscribe", id: `${n}`, conversation_id })),
  send: (conversation_id, n, content) =>
    encodeText(
      JSON.stringify({ type: "message.send", id: `${n}`, conversation_id, client_message_id: nextClientId(), content }),
    ),
  classify(payload) {
    switch (payload[TYPE_INDEX]) {
      case charCode("a"):
        return "ack";
      case charCode("m"):
        return "push";
      case charCode("r"):
        return "ready";
      case charCode("e"):
        throw new Error(`Parley refused a frame: ${payload}`);
      default:
        return "other";
    }
  },
  keepalive: encodeText('{"type":"ping"}'),
};

/** Socket.IO over Engine.IO 4: `40` connects, `42N[…]` is an event that requests an ack, and `43N[…]` is the ack. */
export const socketIo: Protocol = {
  path: "/socket.io/?EIO=4&transport=websocket",
  headers: () => ({}),
  connectFrame: encodeText("40"),
  subscribe: (conversationId, n) => encodeText(`42${n}${JSON.stringify(["subscribe", conversationId])}`),
  send: (conversation_id, n, content) =>
    encodeText(`42${n}${JSON.stringify(["send", { conversation_id, client_message_id: nextClientId(), content }])}`),
  classify(payload) {
    const first = payload[0];
    if (first === charCode("2")) return "keepalive";
    if (first !== charCode("4")) return "other";
    switch (payload[1]) {
      case charCode("0"):
        return "ready";
      case charCode("2"):
        return "push";
      case charCode("3"):
        return "ack";
      default:
        throw new Error(`Socket.IO refused a packet: ${payload}`);
    }
  },
  keepalive: encodeText("3"),
};

/** The bare server acknowledges each frame with `ack`, and publishes a fixed string that begins with `x`. */
export const bare: Protocol = {
  path: "/",
  headers: () => ({}),
  connectFrame: encodeText("hello"),
  subscribe: () => encodeText("subscribe"),
  send: (_conversationId, _n, content) => encodeText(content),
  classify(payload) {
    if (payload[0] === charCode("a")) return "ack";
    return payload[0] === charCode("r") ? "ready" : "push";
  },
  keepalive: encodeText("hello"),
};

export const protocols = { parley, socketIo, bare };
export type ProtocolName = keyof typeof protocols;

// Makes ids unique across load processes. A message with a repeated id would not be stored.
const prefix = Bun.randomUUIDv7().slice(-12);
let count = 0;

function nextClientId(): string {
  count += 1;
  return `${prefix}-${count}`;
}
