import type { Account } from "../support/client.ts";
import type { Frame } from "../support/socket.ts";
import type { Parley } from "./installation.ts";

/** Maximum number of unacknowledged messages per socket. */
const IN_FLIGHT_MAX = 16;
const PAGE_ROWS = 200;

export type StoredMessage = { id: string; seq: number; content: string; client_message_id: string | null };

export type Sender = {
  /** The acknowledged messages by client id, in the order in which they were sent. */
  ackedMessages: Map<string, StoredMessage>;
  /** The client ids of sent messages that haven't been acknowledged. */
  unackedIds: Set<string>;
  /** The pushed messages, in order of arrival. */
  pushedMessages: StoredMessage[];
  closed: Promise<void>;
};

/** Returns the content of the message with this client id. */
export const createContent = (clientMessageId: string): string => `The text of ${clientMessageId}`;

/** Starts a client that sends messages until the connection breaks. Each ack triggers the next send. */
export function startSender(parley: Parley, account: Account, conversation_id: string, name: string): Sender {
  const sender: Sender = {
    ackedMessages: new Map(),
    unackedIds: new Set(),
    pushedMessages: [],
    closed: Promise.resolve(),
  };
  const options = { protocols: ["parley.v1"], headers: { authorization: `Bearer ${account.access_token}` } };
  const socket = new WebSocket(`${parley.url.replace("http", "ws")}/realtime`, options as unknown as string[]);
  let count = 0;

  function sendNext(): void {
    count += 1;
    const id = `${name}-${count}`;
    sender.unackedIds.add(id);
    const frame = { conversation_id, client_message_id: id, content: createContent(id), reply: false };
    socket.send(JSON.stringify({ type: "message.send", id, ...frame }));
  }

  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(String(data)) as Frame;
    if (frame.type === "ready") socket.send(JSON.stringify({ type: "subscribe", id: "subscribe", conversation_id }));
    else if (frame.type === "ack" && frame.id === "subscribe") for (let n = 0; n < IN_FLIGHT_MAX; n += 1) sendNext();
    else if (frame.type === "message.created") sender.pushedMessages.push(frame.data as unknown as StoredMessage);
    else if (frame.type === "ack" && frame.message) {
      const id = frame.id ?? "";
      sender.ackedMessages.set(id, frame.message as StoredMessage);
      sender.unackedIds.delete(id);
      sendNext();
    } else if (frame.type === "error") throw new Error(`${name}: ${JSON.stringify(frame)}`);
  };
  sender.closed = new Promise((resolve) => {
    socket.onclose = () => resolve();
  });
  return sender;
}

/** Fetches all messages in a conversation. */
export async function fetchHistory(
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
