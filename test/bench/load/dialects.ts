import { encodeText } from "./wire.ts";

/** What a text frame of a server means to the load. */
export type Meaning = "ack" | "push" | "ready" | "keepalive" | "other";

/** The protocol of one kind of server. The load checks a few bytes of a frame, and never parses it. */
export type Dialect = {
  path: string;
  headers(token: string): Record<string, string>;
  /** Sent when the connection opens; the server's response, or its first frame, is `ready`. */
  hello: Buffer | null;
  /** Subscribes a connection to a conversation; the response is an ack. */
  subscribe(conversationId: string, n: number): Buffer;
  send(conversationId: string, n: number, content: string): Buffer;
  read(payload: Buffer): Meaning;
  keepalive: Buffer;
};

const byte = (text: string) => text.charCodeAt(0);
/** The index of the first letter of the type in `{"type":"…`. */
const TYPE_AT = 9;

export const parley: Dialect = {
  path: "/realtime",
  headers: (token) => ({ authorization: `Bearer ${token}`, "sec-websocket-protocol": "parley.v1" }),
  hello: null,
  subscribe: (conversation_id, n) => encodeText(JSON.stringify({ type: "subscribe", id: `${n}`, conversation_id })),
  send: (conversation_id, n, content) =>
    encodeText(
      JSON.stringify({ type: "message.send", id: `${n}`, conversation_id, client_message_id: nextClientId(), content }),
    ),
  read(payload) {
    switch (payload[TYPE_AT]) {
      case byte("a"):
        return "ack";
      case byte("m"):
        return "push";
      case byte("r"):
        return "ready";
      case byte("e"):
        throw new Error(`Parley refused a frame: ${payload}`);
      default:
        return "other";
    }
  },
  keepalive: encodeText('{"type":"ping"}'),
};

/** Socket.IO over Engine.IO 4: `40` connects, `42N[…]` is an event that requests an ack, `43N[…]` the ack. */
export const socketIo: Dialect = {
  path: "/socket.io/?EIO=4&transport=websocket",
  headers: () => ({}),
  hello: encodeText("40"),
  subscribe: (conversationId, n) => encodeText(`42${n}${JSON.stringify(["subscribe", conversationId])}`),
  send: (conversation_id, n, content) =>
    encodeText(`42${n}${JSON.stringify(["send", { conversation_id, client_message_id: nextClientId(), content }])}`),
  read(payload) {
    const first = payload[0];
    if (first === byte("2")) return "keepalive";
    if (first !== byte("4")) return "other";
    switch (payload[1]) {
      case byte("0"):
        return "ready";
      case byte("2"):
        return "push";
      case byte("3"):
        return "ack";
      default:
        throw new Error(`Socket.IO refused a packet: ${payload}`);
    }
  },
  keepalive: encodeText("3"),
};

/** The bare server acknowledges each frame with an `a`, and publishes its own text, which starts with another letter. */
export const bare: Dialect = {
  path: "/",
  headers: () => ({}),
  hello: encodeText("hello"),
  subscribe: () => encodeText("subscribe"),
  send: (_conversationId, _n, content) => encodeText(content),
  read(payload) {
    if (payload[0] === byte("a")) return "ack";
    return payload[0] === byte("r") ? "ready" : "push";
  },
  keepalive: encodeText("hello"),
};

export const dialects = { parley, socketIo, bare };
export type DialectName = keyof typeof dialects;

// Unique within a load process, and between them by the start time: a repeated id would not be stored again.
const prefix = Bun.randomUUIDv7().slice(-12);
let count = 0;

function nextClientId(): string {
  count += 1;
  return `${prefix}-${count}`;
}
