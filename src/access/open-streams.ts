import type { Problem } from "../lib/problem.ts";
import type { Caller } from "./caller.ts";

/** The reason to close a stream: what was revoked or deleted, or has expired. `credential` is a session or an API key. */
export type StreamEndReason = "credential" | "token" | "membership" | "conversation";
export type StreamEnd = { reason: StreamEndReason; problem: Problem };

/** A connection or response that stays open longer than an ordinary request, such as a socket, a download or a completion. */
export interface OpenStream {
  /** The caller who opened the stream. Must not be cached, because a socket can renew its credential. */
  readonly caller: Caller | null;
  /** The conversation that the caller must be a member of, unless the hub closes the stream itself. */
  readonly conversationId?: string | null;
  /** Whether the membership must include write permission. */
  readonly isWriting?: boolean;
  /**
   * Whether the stream is closed when a session's access token expires. Set for open-ended streams; ordinary requests
   * finish on their own. When an API key expires, all its streams are closed.
   */
  readonly shouldEndWithToken?: boolean;
  /** Closes the stream. Called at most once, when the caller loses access. */
  end(streamEnd: StreamEnd): void;
}

type NeededMembership = { conversationId: string; userId: string };

/**
 * All open streams on this instance, by caller. Register every long-lived stream here, so that it is closed when access is
 * revoked (modules/revocations).
 */
export interface OpenStreams {
  /** Registers a stream. @returns a function that unregisters it; call it when the stream ends normally. */
  add(stream: OpenStream): () => void;
  count(): number;
  /** Returns the ids of sessions that have open streams. */
  listSessionIds(): string[];
  /** Returns API key callers that have open streams. */
  listKeyCallers(): Caller[];
  /** Returns the memberships that open streams require, without duplicates. */
  listMemberships(): NeededMembership[];
  /** Returns whether any stream requires a membership in this conversation. */
  dependsOn(conversationId: string): boolean;
  /** Closes the matching streams. */
  endWhere(matches: (stream: OpenStream, caller: Caller) => boolean, streamEnd: StreamEnd): void;
}

export function createStreamRegistry(): OpenStreams {
  const streams = new Set<OpenStream>();
  /** The number of streams per conversation. */
  const conversations = new Map<string, number>();

  function remove(stream: OpenStream): boolean {
    if (!streams.delete(stream)) return false;
    const id = stream.conversationId;
    if (!id) return true;
    const remaining = (conversations.get(id) ?? 1) - 1;
    if (remaining > 0) conversations.set(id, remaining);
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
      const memberships = new Map<string, NeededMembership>();
      for (const { caller, conversationId } of streams)
        if (caller && conversationId)
          memberships.set(`${conversationId} ${caller.user.id}`, { conversationId, userId: caller.user.id });
      return [...memberships.values()];
    },

    dependsOn: (conversationId) => conversations.has(conversationId),

    endWhere(matches, streamEnd) {
      for (const stream of streams) {
        const { caller } = stream;
        if (caller && matches(stream, caller) && remove(stream)) stream.end(streamEnd);
      }
    },
  };
}
