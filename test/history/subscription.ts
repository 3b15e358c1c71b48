import type { Frame } from "../support/socket.ts";
import type { Connection } from "./connection.ts";
import type { View } from "./history.ts";

/** The delay before a subscription is retried. */
const RETRY_MS = 100;

type SubscriptionOptions = {
  client: string;
  userId: string;
  conversationId: string;
  /** Whether the user is a member only part of the time, so that `not_found` is expected. */
  isGuest: boolean;
  onPermanentError(error: Frame): void;
};

/** A client's subscription to a conversation, over all of its connections. */
export class Subscription {
  readonly view: View;
  /** The sequence number of the newest event that the client has received. */
  seq = 0;
  /** The IDs of the users that the client considers online. */
  readonly onlineUserIds = new Set<string>();
  #connection: Connection | null = null;
  #isSubscribed = false;
  /** Whether pushes may arrive on this connection. */
  #mayReceive = false;

  constructor(readonly options: SubscriptionOptions) {
    const { client, userId, conversationId } = options;
    this.view = { client, userId, conversationId, observations: [] };
  }

  get isSubscribed(): boolean {
    return this.#isSubscribed && this.#connection?.isOpen() === true;
  }

  /** Subscribes from the client's last event on. Retries until this succeeds or the connection closes. */
  async subscribe(connection: Connection): Promise<void> {
    if (connection !== this.#connection) this.#mayReceive = false;
    this.#connection = connection;
    this.#isSubscribed = false;
    const { conversationId: conversation_id, isGuest, onPermanentError } = this.options;
    while (connection === this.#connection && connection.isOpen()) {
      const after_seq = this.seq;
      const onResponse = (response: Frame) => void (response.type === "ack" && this.#recordAck(response, after_seq));
      const response = await connection.request({ type: "subscribe", conversation_id, after_seq }, onResponse);
      if (!response || response.type === "ack") return;
      const mayRetry = response.temporary === true || (isGuest && response.code === "not_found");
      if (!mayRetry) return void onPermanentError(response);
      await Bun.sleep(RETRY_MS);
    }
  }

  #recordAck({ recovered, last_seq, events, members_online }: Frame, afterSeq: number): void {
    this.#isSubscribed = true;
    this.#mayReceive = true;
    // A client that is still subscribed may have received some of these events while it resubscribed.
    const isNewToClient = ({ seq = 0 }: Frame) => seq <= afterSeq || seq > this.seq;
    this.view.observations.push({
      type: "subscribed",
      afterSeq,
      isRecovered: recovered === true,
      lastSeq: Number(last_seq),
      events: (events as Frame[]).filter(isNewToClient),
    });
    this.seq = Math.max(this.seq, Number(last_seq));
    this.onlineUserIds.clear();
    for (const id of members_online as string[]) this.onlineUserIds.add(id);
  }

  /** Handles a push. @returns false if the client isn't subscribed and must not receive it. */
  handleFrame(frame: Frame): boolean {
    if (!this.#mayReceive) return false;
    if (typeof frame.seq === "number" && frame.data) this.#handlePush(frame);
    else if (frame.type === "message.delta" || frame.type === "message.reset")
      this.view.observations.push({ type: "text", frame });
    else if (frame.type === "presence" && frame.online) this.onlineUserIds.add(String(frame.user_id));
    else if (frame.type === "presence") this.onlineUserIds.delete(String(frame.user_id));
    return true;
  }

  #handlePush(event: Frame): void {
    this.view.observations.push({ type: "event", event, atMs: Date.now() });
    this.seq = Math.max(this.seq, event.seq ?? 0);
    const isOwnRemoval = event.type === "member.removed" && event.data?.user_id === this.options.userId;
    if (!isOwnRemoval || !this.#connection) return;
    // The user may already be a member again. If not, no more events may arrive, as checkView verifies.
    void this.subscribe(this.#connection);
  }
}
