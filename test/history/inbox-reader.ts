import { type Account, createTestClient } from "../support/client.ts";
import { listShown } from "../support/inbox.ts";
import type { Frame } from "../support/socket.ts";
import type { Connection } from "./connection.ts";

const RETRY_MS = 100;

type Shown = Awaited<ReturnType<typeof listShown>>[string];

/** The inbox as a client shows it: the list of conversations after each connect, updated by `inbox` frames. */
export class InboxReader {
  #shown = new Map<string, Shown>();
  /** The current connection; frames of earlier ones are ignored. */
  #connection: Connection | null = null;
  #isReady = false;

  constructor(
    readonly account: Account,
    readonly pickUrl: () => string,
  ) {}

  get isReady(): boolean {
    return this.#isReady;
  }

  /** The shown conversations by their ids. */
  show(): Record<string, Shown> {
    return Object.fromEntries(this.#shown);
  }

  async begin(connection: Connection): Promise<void> {
    this.#connection = connection;
    this.#isReady = false;
    while (connection === this.#connection && connection.isOpen()) {
      if (await this.#tryBegin(connection)) return;
      await Bun.sleep(RETRY_MS);
    }
  }

  async #tryBegin(connection: Connection): Promise<boolean> {
    const clear = () => void this.#shown.clear();
    const answer = await connection.ask({ type: "inbox.subscribe" }, clear);
    if (answer?.type !== "ack") return false;
    const list = await listShown(createTestClient(this.pickUrl()), this.account).catch(() => null);
    if (!list || connection !== this.#connection) return false;
    for (const [id, listed] of Object.entries(list)) {
      const shown = this.#shown.get(id);
      if (!shown || isNewer(listed, shown)) this.#shown.set(id, listed);
    }
    this.#isReady = true;
    return true;
  }

  take(frame: Frame): void {
    const { conversation_id, change, title, last_seq, last_read_seq, unread, updated_at } = frame as Frame & Shown;
    const id = conversation_id ?? "";
    if (change === "removed") this.#shown.delete(id);
    else this.#shown.set(id, { title, last_seq, last_read_seq, unread, updated_at });
  }
}

const isNewer = (one: Shown, other: Shown): boolean =>
  one.last_seq > other.last_seq || (one.last_seq === other.last_seq && one.last_read_seq > other.last_read_seq);
