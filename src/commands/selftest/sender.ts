import type { AcknowledgedMessage } from "./find-problems.ts";
import type { StoredMessage } from "./rest.ts";
import type { ClientSocket } from "./socket.ts";

export type SenderOptions = {
  socket: ClientSocket;
  conversationId: string;
  /** Prefix of the client message ids. */
  name: string;
  /** Maximum number of unacknowledged messages. */
  inFlightMax: number;
  /** Pause after each acknowledgement. */
  pauseMs?: number;
  /** Number of messages to send. If absent, sends until `stop` is called. */
  messagesMax?: number;
};

export type Sender = {
  /** Acknowledged messages by client message id, in the order of their acknowledgements. */
  readonly acknowledged: Map<string, AcknowledgedMessage>;
  /** Client message ids that were sent but not acknowledged. */
  readonly pending: Set<string>;
  /** Time at which each message was sent (`performance.now()`), by client message id. */
  readonly sentAtMs: Map<string, number>;
  readonly problems: string[];
  /** Resolves when the sender has stopped or its connection is closed. */
  readonly done: Promise<void>;
  stop(): Promise<void>;
};

const RETRY_INTERVAL_MS = 50;

/** Returns the content of a message. It contains the client message id, so that swapped messages are detected. */
export const createContent = (clientId: string): string => `The text of message ${clientId}, which must not be lost.`;

/** Sends messages over a socket as fast as they are acknowledged. Resends them after temporary errors, as clients do. */
export function startSender(options: SenderOptions): Sender {
  const { socket, conversationId, name, inFlightMax, pauseMs = 0, messagesMax = Number.POSITIVE_INFINITY } = options;
  let isStopped = false;
  let sentCount = 0;
  const acknowledged = new Map<string, AcknowledgedMessage>();
  const pending = new Set<string>();
  const sentAtMs = new Map<string, number>();
  const problems: string[] = [];

  async function sendMessage(clientId: string): Promise<void> {
    const frame = { conversation_id: conversationId, client_message_id: clientId, content: createContent(clientId) };
    for (;;) {
      const response = await socket.request({ type: "message.send", ...frame, reply: false });
      if (response.type === "ack") {
        acknowledged.set(clientId, response.message as StoredMessage);
        pending.delete(clientId);
        return;
      }
      if (response.temporary !== true) throw new Error(`expected an ack of ${clientId}, but got ${response.code}`);
      await Bun.sleep(RETRY_INTERVAL_MS);
    }
  }

  async function sendMessages(): Promise<void> {
    while (!isStopped && sentCount < messagesMax) {
      sentCount += 1;
      const clientId = `${name}-${sentCount}`;
      pending.add(clientId);
      sentAtMs.set(clientId, performance.now());
      try {
        await sendMessage(clientId);
      } catch (error) {
        // Some checks close the connection on purpose.
        if (socket.isOpen()) problems.push(error instanceof Error ? error.message : String(error));
        return;
      }
      if (pauseMs > 0) await Bun.sleep(pauseMs);
    }
  }

  const done = Promise.all(Array.from({ length: inFlightMax }, sendMessages)).then(() => {});
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
