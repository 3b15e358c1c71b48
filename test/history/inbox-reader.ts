import { type Account, createTestClient } from "../support/client.ts";
import { listConversations } from "../support/inbox.ts";
import type { Frame } from "../support/socket.ts";
import type { Connection } from "./connection.ts";

const RETRY_MS = 100;

type ListedConversation = Awaited<ReturnType<typeof listConversations>>[string];

/** A client's inbox: the list of conversations, loaded after each connect and updated by `inbox` frames. */
export class InboxReader {
  #conversations = new Map<string, ListedConversation>();
  #connection: Connection | null = null;
  #isReady = false;

  constructor(
    readonly account: Account,
    readonly pickUrl: () => string,
  ) {}

  get isReady(): boolean {
    return this.#isReady;
  }

  /** Returns the conversations by ID. */
  list(): Record<string, ListedConversation> {
    return Object.fromEntries(this.#conversations);
  }

  /** Subscribes and loads the list. Retries until both succeed or the connection closes. */
  async subscribe(connection: Connection): Promise<void> {
    this.#connection = connection;
    this.#isReady = false;
    while (connection === this.#connection && connection.isOpen()) {
      if (await this.#trySubscribe(connection)) return;
      await Bun.sleep(RETRY_MS);
    }
  }

  async #trySubscribe(connection: Connection): Promise<boolean> {
    const clear = () => void this.#conversations.clear();
    const response = await connection.request({ type: "inbox.subscribe" }, clear);
    if (response?.type !== "ack") return false;
    const list = await listConversations(createTestClient(this.pickUrl()), this.account).catch(() => null);
    if (!list || connection !== this.#connection) return false;
    for (const [id, listed] of Object.entries(list)) {
      const current = this.#conversations.get(id);
      if (!current || isNewer(listed, current)) this.#conversations.set(id, listed);
    }
    this.#isReady = true;
    return true;
  }

  /** Applies an `inbox` frame. */
  handleFrame(frame: Frame): void {
    const { conversation_id, change, title, last_seq, last_read_seq, unread, updated_at } = frame as Frame &
      ListedConversation;
    const id = conversation_id ?? "";
    if (change === "removed") this.#conversations.delete(id);
    else this.#conversations.set(id, { title, last_seq, last_read_seq, unread, updated_at });
  }
}

const isNewer = (first: ListedConversation, second: ListedConversation): boolean =>
  first.last_seq > second.last_seq ||
  (first.last_seq === second.last_seq && first.last_read_seq > second.last_read_seq);
