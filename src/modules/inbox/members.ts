import { BoundedCache } from "../../cache/bounded-cache.ts";
import type { InboxKey } from "./queries.ts";

/** Maximum cached members on this instance, over all conversations: about 30 MB. */
const CACHED_MEMBERS_MAX = 300_000;
/** The cost of an entry in addition to its members. */
const ENTRY_COST = 4;

/**
 * Caches the members of active conversations, so that most events need no query. It may be slightly stale: before
 * anything is sent to a user, the database is checked as well.
 */
export class Members {
  readonly #cache = new BoundedCache<Set<string>>({
    max: CACHED_MEMBERS_MAX,
    bytesOf: (members) => members.size + ENTRY_COST,
  });
  /** Conversations whose members are being read, with the changes received meanwhile. */
  readonly #reading = new Map<string, { userId: string; isMember: boolean }[]>();
  /** Incremented by `clear`, so that results of reads that started before it are dropped. */
  #epoch = 0;

  find(conversationId: string): ReadonlySet<string> | undefined {
    return this.#cache.get(conversationId);
  }

  /** Records that a membership has begun or ended. */
  change(conversationId: string, userId: string, isMember: boolean): void {
    this.#reading.get(conversationId)?.push({ userId, isMember });
    const members = this.#cache.get(conversationId);
    if (!members) return;
    set(members, userId, isMember);
    // Set again, because its size has changed.
    this.#cache.set(conversationId, members);
  }

  /**
   * Reads and caches members.
   * @param list reads up to `rows` members, one conversation after the other; `rows` must be more than one conversation
   * can have.
   */
  async load(
    conversationIds: readonly string[],
    list: (conversationIds: readonly string[], rows: number) => Promise<InboxKey[]>,
    rows: number,
  ): Promise<void> {
    const epoch = this.#epoch;
    for (const id of conversationIds) this.#reading.set(id, []);
    try {
      const found = await list(conversationIds, rows);
      if (epoch !== this.#epoch) return;
      const byConversation = new Map<string, Set<string>>();
      for (const { conversation_id, user_id } of found) {
        const members = byConversation.get(conversation_id);
        if (members) members.add(user_id);
        else byConversation.set(conversation_id, new Set([user_id]));
      }
      // If the limit was reached, the last conversation found may be incomplete.
      const last = found.length < rows ? undefined : found.at(-1)?.conversation_id;
      for (const id of conversationIds) {
        if (id === last) break;
        const members = byConversation.get(id) ?? new Set();
        for (const { userId, isMember } of this.#reading.get(id) ?? []) set(members, userId, isMember);
        this.#cache.set(id, members);
      }
    } finally {
      for (const id of conversationIds) this.#reading.delete(id);
    }
  }

  clear(): void {
    this.#epoch += 1;
    this.#cache.clear();
  }
}

function set(members: Set<string>, userId: string, isMember: boolean): void {
  if (isMember) members.add(userId);
  else members.delete(userId);
}
