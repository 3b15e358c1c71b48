import type { Problem } from "../lib/problem.ts";
import type { Caller } from "./caller.ts";

/** Why a stream ends: its session or API key, its access token, its membership, or its conversation is gone. */
export type StreamEndReason = "credential" | "token" | "membership" | "conversation";
export type StreamEnd = { reason: StreamEndReason; problem: Problem };

/** Anything a caller keeps open longer than a plain request: a socket, a feed, a completion, a download, an upload. */
export interface OpenStream {
  /** The caller who opened it. Read each time, because a socket may renew its credential. */
  readonly caller: Caller | null;
  /** The conversation whose membership it requires. Absent or null: none, or the hub ends it. */
  readonly conversationId?: string | null;
  /** Whether that membership must allow writing. */
  readonly isWriting?: boolean;
  /**
   * Whether it ends when a session's access token expires. Set for open-ended streams; plain requests
   * finish on their own. An expiring API key ends all streams.
   */
  readonly endsWithToken?: boolean;
  /** Called at most once, when the caller loses access. */
  end(why: StreamEnd): void;
}

type NeededMembership = { conversationId: string; userId: string };

/**
 * All open streams on this instance, by caller. Register every long-lived stream here, so that it ends when access is
 * revoked (modules/revocations).
 */
export interface OpenStreams {
  /** @returns a function that removes the stream when it ends normally. */
  add(stream: OpenStream): () => void;
  count(): number;
  /** Sessions with open streams. */
  listSessionIds(): string[];
  /** API key callers with open streams. */
  listKeyCallers(): Caller[];
  /** The memberships that open streams require, without duplicates. */
  listMemberships(): NeededMembership[];
  /** Whether any stream requires a membership in this conversation. */
  dependsOn(conversationId: string): boolean;
  /** Ends the matching streams. */
  endWhere(isMeant: (stream: OpenStream, caller: Caller) => boolean, why: StreamEnd): void;
}

export function createOpenStreams(): OpenStreams {
  const streams = new Set<OpenStream>();
  /** The number of streams per conversation. */
  const conversations = new Map<string, number>();

  function remove(stream: OpenStream): boolean {
    if (!streams.delete(stream)) return false;
    const id = stream.conversationId;
    if (!id) return true;
    const left = (conversations.get(id) ?? 1) - 1;
    if (left > 0) conversations.set(id, left);
    else conversations.delete(id);
    return true;
  }

  return {
    add(stream) {
      streams.add(stream);
      const id = stream.conversationId;
      if (id) conversations.set(id, (conversations.get(id) ?? 0) + 1);
      return () => void remove(stream);
    },

    count: () => streams.size,

    listSessionIds() {
      const ids = new Set<string>();
      for (const { caller } of streams) if (caller?.scopes === null) ids.add(caller.credentialId);
      return [...ids];
    },

    listKeyCallers() {
      const callers: Caller[] = [];
      for (const { caller } of streams) if (caller && caller.scopes !== null) callers.push(caller);
      return callers;
    },

    listMemberships() {
      if (conversations.size === 0) return [];
      const found = new Map<string, NeededMembership>();
      for (const { caller, conversationId } of streams)
        if (caller && conversationId)
          found.set(`${conversationId} ${caller.user.id}`, { conversationId, userId: caller.user.id });
      return [...found.values()];
    },

    dependsOn: (conversationId) => conversations.has(conversationId),

    endWhere(isMeant, why) {
      for (const stream of streams) {
        const { caller } = stream;
        if (caller && isMeant(stream, caller) && remove(stream)) stream.end(why);
      }
    },
  };
}
