import type { Account } from "../support/client.ts";
import type { Frame } from "../support/socket.ts";
import type { Parley } from "./site.ts";

/** Unacknowledged messages per socket. */
const IN_FLIGHT = 16;
const PAGE_ROWS = 200;

export type StoredMessage = { id: string; seq: number; content: string; client_message_id: string | null };

export type Sender = {
  /** Acknowledged messages by client id, in the order sent. */
  acked: Map<string, StoredMessage>;
  /** Messages that were sent but unacknowledged when the connection broke. */
  unacked: Set<string>;
  /** Pushed messages, in order of arrival. */
  pushed: StoredMessage[];
  closed: Promise<void>;
};

/** The content of a message, derived from its client id. */
export const contentOf = (clientMessageId: string): string => `The text of ${clientMessageId}`;

/** Sends as fast as acks arrive, until the connection breaks. */
export function startSender(parley: Parley, account: Account, conversation_id: string, name: string): Sender {
  const sender: Sender = { acked: new Map(), unacked: new Set(), pushed: [], closed: Promise.resolve() };
  const options = { protocols: ["parley.v1"], headers: { authorization: `Bearer ${account.access_token}` } };
  const socket = new WebSocket(`${parley.url.replace("http", "ws")}/realtime`, options as unknown as string[]);
  let count = 0;

  function send(): void {
    count += 1;
    const id = `${name}-${count}`;
    sender.unacked.add(id);
    const frame = { conversation_id, client_message_id: id, content: contentOf(id), reply: false };
    socket.send(JSON.stringify({ type: "message.send", id, ...frame }));
  }

  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(String(data)) as Frame;
    if (frame.type === "ready") socket.send(JSON.stringify({ type: "subscribe", id: "subscribe", conversation_id }));
    else if (frame.type === "ack" && frame.id === "subscribe") for (let n = 0; n < IN_FLIGHT; n += 1) send();
    else if (frame.type === "message.created") sender.pushed.push(frame.data as unknown as StoredMessage);
    else if (frame.type === "ack" && frame.message) {
      const id = frame.id ?? "";
      sender.acked.set(id, frame.message as StoredMessage);
      sender.unacked.delete(id);
      send();
    } else if (frame.type === "error") throw new Error(`${name}: ${JSON.stringify(frame)}`);
  };
  sender.closed = new Promise((resolve) => {
    socket.onclose = () => resolve();
  });
  return sender;
}

/** Reads the whole history of a conversation page by page. */
export async function readHistory(
  parley: Parley,
  { access_token }: Account,
  conversationId: string,
): Promise<StoredMessage[]> {
  const history: StoredMessage[] = [];
  for (;;) {
    const after = history.at(-1)?.seq ?? 0;
    const path = `/api/v1/conversations/${conversationId}/messages?after_seq=${after}&limit=${PAGE_ROWS}`;
    const response = await parley.fetch(path, { token: access_token });
    if (response.status !== 200) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    const { data } = (await response.json()) as { data: StoredMessage[] };
    if (data.length === 0) return history;
    history.push(...data);
  }
}
