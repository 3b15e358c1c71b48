import { BoundedCache } from "../../cache/bounded-cache.ts";
import type { InboxKey } from "./queries.ts";

/** Maximum number of cached members of all conversations on this instance: about 30 MB. */
const CACHED_MEMBERS_MAX = 300_000;
/** Overhead of a cache entry, in members. */
const ENTRY_COST = 4;

/**
 * Caches the members of active conversations, so that most events need no query. The cache may be slightly stale. The database
 * is checked before a frame is sent to a user.
 */
export class MemberCache {
  readonly #cache = new BoundedCache<Set<string>>({
    maxSize: CACHED_MEMBERS_MAX,
    getSizeBytes: (members) => members.size + ENTRY_COST,
  });
  /** The conversations whose members are being read, each with the changes received during the read. */
  readonly #changesDuringRead = new Map<string, { userId: string; isMember: boolean }[]>();
  /** Incremented by `clear`, to discard the results of reads that started earlier. */
  #epoch = 0;

  get(conversationId: string): ReadonlySet<string> | undefined {
    return this.#cache.get(conversationId);
  }

  /** Records a new or removed member. */
  setMember(conversationId: string, userId: string, isMember: boolean): void {
    this.#changesDuringRead.get(conversationId)?.push({ userId, isMember });
    const members = this.#cache.get(conversationId);
    if (!members) return;
    updateSet(members, userId, isMember);
    // Updates the size of the cache entry.
    this.#cache.set(conversationId, members);
  }

  /**
   * Reads and caches members.
   * @param listMembers returns up to `limit` members, grouped by conversation in the order of `conversationIds`.
   * @param limit must be greater than the maximum number of members in a conversation.
   */
  async load(
    conversationIds: readonly string[],
    listMembers: (conversationIds: readonly string[], limit: number) => Promise<InboxKey[]>,
    limit: number,
  ): Promise<void> {
    const epoch = this.#epoch;
    for (const id of conversationIds) this.#changesDuringRead.set(id, []);
    try {
      const foundMembers = await listMembers(conversationIds, limit);
      if (epoch !== this.#epoch) return;
      const membersByConversation = new Map<string, Set<string>>();
      for (const { conversation_id, user_id } of foundMembers) {
        const members = membersByConversation.get(conversation_id);
        if (members) members.add(user_id);
        else membersByConversation.set(conversation_id, new Set([user_id]));
      }
      // If the limit was reached, the last conversation's members may be incomplete.
      const incompleteId = foundMembers.length < limit ? undefined : foundMembers.at(-1)?.conversation_id;
      for (const id of conversationIds) {
        if (id === incompleteId) break;
        const members = membersByConversation.get(id) ?? new Set();
        for (const { userId, isMember } of this.#changesDuringRead.get(id) ?? []) updateSet(members, userId, isMember);
        this.#cache.set(id, members);
      }
    } finally {
      for (const id of conversationIds) this.#changesDuringRead.delete(id);
    }
  }

  clear(): void {
    this.#epoch += 1;
    this.#cache.clear();
  }
}

function updateSet(members: Set<string>, userId: string, isMember: boolean): void {
  if (isMember) members.add(userId);
  else members.delete(userId);
}
