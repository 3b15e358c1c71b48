import type { InboxSeqs } from "./queries.ts";

/** Maximum number of states kept per user: those of the newest conversations. */
export const SENT_STATES_MAX = 200;
/** Maximum number of states of all users on an instance: about 30 MB. */
const SENT_STATES_TOTAL_MAX = 250_000;

/** The total number of states, shared by all users. */
export type StateCount = { count: number };

/**
 * The states last sent to a user's inbox, by conversation. If messages between instances were lost, the states in the database are
 * compared with these, so that no frames are sent for conversations that haven't changed.
 */
export class SentStates {
  readonly #seqs = new Map<string, InboxSeqs>();
  /** Whether all of the user's conversations are included. */
  #isComplete = true;
  #isLoaded = false;

  constructor(readonly total: StateCount) {}

  find(conversationId: string): InboxSeqs | undefined {
    return this.#seqs.get(conversationId);
  }

  /** Lists the conversations, oldest first. */
  listConversations(): string[] {
    return [...this.#seqs.keys()];
  }

  /** Whether all of the user's conversations are included. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  get isLoaded(): boolean {
    return this.#isLoaded;
  }

  /** Loads the initial states from the database. Keeps states that were sent after the query, because they are newer. */
  load(newestStates: readonly (InboxSeqs & { conversation_id: string })[]): void {
    this.#isLoaded = true;
    if (newestStates.length >= SENT_STATES_MAX) this.#isComplete = false;
    for (const { conversation_id, last_seq, last_read_seq } of newestStates)
      if (!this.#seqs.has(conversation_id)) this.set(conversation_id, { last_seq, last_read_seq });
  }

  /** Returns whether a state is newer than the state that was sent, or none was sent. */
  isNew(conversationId: string, { last_seq, last_read_seq }: InboxSeqs): boolean {
    const sentSeqs = this.#seqs.get(conversationId);
    return !sentSeqs || last_seq > sentSeqs.last_seq || last_read_seq > sentSeqs.last_read_seq;
  }

  set(conversationId: string, { last_seq, last_read_seq }: InboxSeqs): void {
    this.delete(conversationId);
    const isFull = this.#seqs.size >= SENT_STATES_MAX || this.total.count >= SENT_STATES_TOTAL_MAX;
    if (isFull) {
      this.#isComplete = false;
      const [oldestId] = this.#seqs.keys();
      if (oldestId === undefined) return;
      this.delete(oldestId);
    }
    this.#seqs.set(conversationId, { last_seq, last_read_seq });
    this.total.count += 1;
  }

  delete(conversationId: string): void {
    if (this.#seqs.delete(conversationId)) this.total.count -= 1;
  }

  /** Call this when the user's last inbox on this instance has closed. */
  clear(): void {
    this.total.count -= this.#seqs.size;
    this.#seqs.clear();
  }
}
