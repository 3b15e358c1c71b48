import type { StoredMessage } from "./rest.ts";
import type { ClientSocket } from "./socket.ts";
import type { Acknowledged } from "./verdicts.ts";

export type SenderOptions = {
  socket: ClientSocket;
  conversationId: string;
  /** The prefix of the messages' client ids. */
  name: string;
  /** The maximum number of unacknowledged messages. */
  inFlight: number;
  /** Pause after each acknowledgement. */
  paceMs?: number;
  /** The number of messages to send; absent: until `stop` is called. */
  messagesMax?: number;
};

export type Sender = {
  /** The acknowledged messages by client id, in order of acknowledgement. */
  readonly acknowledged: Map<string, Acknowledged>;
  /** Client ids of messages that were sent but not acknowledged. */
  readonly pending: Set<string>;
  /** When each message was sent, by client id, as returned by `performance.now()`. */
  readonly sentAtMs: Map<string, number>;
  readonly problems: string[];
  /** Fulfills when the sender has stopped, or its connection is closed. */
  readonly done: Promise<void>;
  stop(): Promise<void>;
};

const RETRY_PAUSE_MS = 50;

/** Returns the content of a message. It names the client id, so that a mix-up is noticed. */
export const contentOf = (clientId: string): string => `The text of message ${clientId}, which nobody may lose.`;

/** Sends messages over a socket as fast as they are acknowledged. Retries after temporary errors, as clients do. */
export function startSender(options: SenderOptions): Sender {
  const { socket, conversationId, name, inFlight, paceMs = 0, messagesMax = Number.POSITIVE_INFINITY } = options;
  let isStopped = false;
  let count = 0;
  const acknowledged = new Map<string, Acknowledged>();
  const pending = new Set<string>();
  const sentAtMs = new Map<string, number>();
  const problems: string[] = [];

  async function send(clientId: string): Promise<void> {
    const frame = { conversation_id: conversationId, client_message_id: clientId, content: contentOf(clientId) };
    for (;;) {
      const answer = await socket.request({ type: "message.send", ...frame, reply: false });
      if (answer.type === "ack") {
        acknowledged.set(clientId, answer.message as StoredMessage);
        pending.delete(clientId);
        return;
      }
      if (answer.temporary !== true) throw new Error(`expected an ack of ${clientId}, but got ${answer.code}`);
      await Bun.sleep(RETRY_PAUSE_MS);
    }
  }

  async function work(): Promise<void> {
    while (!isStopped && count < messagesMax) {
      count += 1;
      const clientId = `${name}-${count}`;
      pending.add(clientId);
      sentAtMs.set(clientId, performance.now());
      try {
        await send(clientId);
      } catch (error) {
        // Some checks close the connection on purpose, and then look at what was acknowledged.
        if (socket.isOpen()) problems.push(error instanceof Error ? error.message : String(error));
        return;
      }
      if (paceMs > 0) await Bun.sleep(paceMs);
    }
  }

  const done = Promise.all(Array.from({ length: inFlight }, work)).then(() => {});
  return {
    acknowledged,
    pending,
    sentAtMs,
    problems,
    done,
    stop() {
      isStopped = true;
      return done;
    },
  };
}
