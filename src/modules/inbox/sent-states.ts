import type { InboxSeqs } from "./queries.ts";

/** Remembered conversations per user, the newest ones. */
export const SENT_STATES_MAX = 200;
/** For all users of an instance together: about 30 MB. */
const SENT_STATES_TOTAL_MAX = 250_000;

/** A counter shared by all users. */
export type SentTotal = { count: number };

/**
 * The states last sent to a user's inbox, by conversation. After messages between instances were lost, only real changes
 * are sent again.
 */
export class SentStates {
  readonly #seqs = new Map<string, InboxSeqs>();
  /** Whether it contains all conversations of the user. */
  #isComplete = true;
  #isLoaded = false;

  constructor(readonly total: SentTotal) {}

  find(conversationId: string): InboxSeqs | undefined {
    return this.#seqs.get(conversationId);
  }

  /** From the oldest to the newest. */
  listConversations(): string[] {
    return [...this.#seqs.keys()];
  }

  /** Whether all conversations of the user are contained. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  get isLoaded(): boolean {
    return this.#isLoaded;
  }

  /** @param newest the states of a moment ago: states sent since then are newer. */
  load(newest: readonly (InboxSeqs & { conversation_id: string })[]): void {
    this.#isLoaded = true;
    if (newest.length >= SENT_STATES_MAX) this.#isComplete = false;
    for (const { conversation_id, last_seq, last_read_seq } of newest)
      if (!this.#seqs.has(conversation_id)) this.set(conversation_id, { last_seq, last_read_seq });
  }

  isNew(conversationId: string, { last_seq, last_read_seq }: InboxSeqs): boolean {
    const sent = this.#seqs.get(conversationId);
    return !sent || last_seq > sent.last_seq || last_read_seq > sent.last_read_seq;
  }

  set(conversationId: string, { last_seq, last_read_seq }: InboxSeqs): void {
    this.delete(conversationId);
    const isFull = this.#seqs.size >= SENT_STATES_MAX || this.total.count >= SENT_STATES_TOTAL_MAX;
    if (isFull) {
      this.#isComplete = false;
      const [oldest] = this.#seqs.keys();
      if (oldest === undefined) return;
      this.delete(oldest);
    }
    this.#seqs.set(conversationId, { last_seq, last_read_seq });
    this.total.count += 1;
  }

  delete(conversationId: string): void {
    if (this.#seqs.delete(conversationId)) this.total.count -= 1;
  }

  /** The user's last inbox here was closed. */
  clear(): void {
    this.total.count -= this.#seqs.size;
    this.#seqs.clear();
  }
}
