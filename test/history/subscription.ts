import type { Frame } from "../support/socket.ts";
import type { Connection } from "./connection.ts";
import type { View } from "./record.ts";

/** A subscription that was refused for now is asked for again after this. */
const RETRY_MS = 100;

type Options = {
  client: string;
  userId: string;
  conversationId: string;
  /** Is a member only at times: not to be found is no fault then. */
  isGuest: boolean;
  onRefused(error: Frame): void;
};

/** What a client has of one conversation, over all of its connections. */
export class Subscription {
  readonly view: View;
  /** The newest event that the client has. */
  seq = 0;
  /** Who is online, as far as the client was told. */
  readonly online = new Set<string>();
  #connection: Connection | null = null;
  #isSubscribed = false;
  /** Pushes may come on this connection. */
  #isListening = false;

  constructor(readonly options: Options) {
    const { client, userId, conversationId } = options;
    this.view = { client, userId, conversationId, seen: [] };
  }

  get isSubscribed(): boolean {
    return this.#isSubscribed && this.#connection?.isOpen() === true;
  }

  /** Subscribes on a connection, behind what the client has, until that succeeds or the connection ends. */
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
    // Who is still subscribed is also pushed events while it asks.
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

  /** Takes in a push. @returns whether the client may get it: it has subscribed. */
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
    // It may be a member again already; otherwise nothing more may come, which the checker sees.
    void this.subscribe(this.#connection);
  }
}
