import type { Frame } from "../support/socket.ts";
import type { Connection } from "./connection.ts";
import type { View } from "./record.ts";

/** Pause before a temporarily refused subscription is retried. */
const RETRY_MS = 100;

type Options = {
  client: string;
  userId: string;
  conversationId: string;
  /** The user is a member only part of the time, so `not_found` is no fault. */
  isGuest: boolean;
  onRefused(error: Frame): void;
};

/** What a client has of one conversation, over all of its connections. */
export class Subscription {
  readonly view: View;
  /** The newest event that the client has. */
  seq = 0;
  /** The users online, as far as the client knows. */
  readonly online = new Set<string>();
  #connection: Connection | null = null;
  #isSubscribed = false;
  /** Whether pushes may arrive on this connection. */
  #isListening = false;

  constructor(readonly options: Options) {
    const { client, userId, conversationId } = options;
    this.view = { client, userId, conversationId, seen: [] };
  }

  get isSubscribed(): boolean {
    return this.#isSubscribed && this.#connection?.isOpen() === true;
  }

  /** Subscribes on a connection, after the client's last event, until that succeeds or the connection closes. */
  async subscribe(connection: Connection): Promise<void> {
    if (connection !== this.#connection) this.#isListening = false;
    this.#connection = connection;
    this.#isSubscribed = false;
    const { conversationId: conversation_id, isGuest, onRefused } = this.options;
    while (connection === this.#connection && connection.isOpen()) {
      const after_seq = this.seq;
      const take = (answer: Frame) => void (answer.type === "ack" && this.#begin(answer, after_seq));
      const answer = await connection.ask({ type: "subscribe", conversation_id, after_seq }, take);
      if (!answer || answer.type === "ack") return;
      const mayRetry = answer.temporary === true || (isGuest && answer.code === "not_found");
      if (!mayRetry) return void onRefused(answer);
      await Bun.sleep(RETRY_MS);
    }
  }

  #begin({ recovered, last_seq, events, members_online }: Frame, afterSeq: number): void {
    this.#isSubscribed = true;
    this.#isListening = true;
    // A client that is still subscribed also receives pushes while it resubscribes.
    const isNews = ({ seq = 0 }: Frame) => seq <= afterSeq || seq > this.seq;
    this.view.seen.push({
      type: "subscribed",
      afterSeq,
      isRecovered: recovered === true,
      lastSeq: Number(last_seq),
      events: (events as Frame[]).filter(isNews),
    });
    this.seq = Math.max(this.seq, Number(last_seq));
    this.online.clear();
    for (const id of members_online as string[]) this.online.add(id);
  }

  /** Handles a push. @returns false if the client isn't subscribed and must not receive it. */
  take(frame: Frame): boolean {
    if (!this.#isListening) return false;
    if (typeof frame.seq === "number" && frame.data) this.#takePush(frame);
    else if (frame.type === "message.delta" || frame.type === "message.reset")
      this.view.seen.push({ type: "text", frame });
    else if (frame.type === "presence" && frame.online) this.online.add(String(frame.user_id));
    else if (frame.type === "presence") this.online.delete(String(frame.user_id));
    return true;
  }

  #takePush(event: Frame): void {
    this.view.seen.push({ type: "event", event, atMs: Date.now() });
    this.seq = Math.max(this.seq, event.seq ?? 0);
    const isOwnEnd = event.type === "member.removed" && event.data?.user_id === this.options.userId;
    if (!isOwnEnd || !this.#connection) return;
    // The user may be a member again already; otherwise nothing more may arrive, which the checker verifies.
    void this.subscribe(this.#connection);
  }
}
