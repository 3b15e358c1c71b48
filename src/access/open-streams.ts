import type { Problem } from "../lib/problem.ts";
import type { Caller } from "./caller.ts";

/** What a stream has lost: its session or API key, its access token, its membership, or its conversation. */
export type StreamEndReason = "credential" | "token" | "membership" | "conversation";
export type StreamEnd = { reason: StreamEndReason; problem: Problem };

/** Whatever a caller keeps open for longer than a plain request takes: a socket, a feed, a completion, a download, an upload. */
export interface OpenStream {
  /** Who opened it. A socket may renew its credential, so this is read each time. */
  readonly caller: Caller | null;
  /** It ends with the caller's membership in this conversation. Absent or null: it needs none, or the hub ends it. */
  readonly conversationId?: string | null;
  /** Whether that membership must allow writing. */
  readonly isWriting?: boolean;
  /**
   * Whether it ends when the access token of a session expires, since it has no end of its own. The others are requests that were
   * let in, and end by themselves. An API key that expires ends all of them.
   */
  readonly endsWithToken?: boolean;
  /** Called once at most: the caller may no longer have it. */
  end(why: StreamEnd): void;
}

type NeededMembership = { conversationId: string; userId: string };

/**
 * Every stream that is open on this instance, by its caller. Whoever opens one adds it here, so that it ends with the
 * access that it was opened with (modules/revocations).
 */
export interface OpenStreams {
  /** @returns takes it out again, at its own end. */
  add(stream: OpenStream): () => void;
  count(): number;
  /** Of sessions that keep streams open. */
  listSessionIds(): string[];
  /** Who keeps streams open by an API key. */
  listKeyCallers(): Caller[];
  /** The memberships that streams depend on, each once. */
  listMemberships(): NeededMembership[];
  /** Whether a stream depends on a membership in this conversation. */
  dependsOn(conversationId: string): boolean;
  /** Ends the streams that are meant. */
  endWhere(isMeant: (stream: OpenStream, caller: Caller) => boolean, why: StreamEnd): void;
}

export function createOpenStreams(): OpenStreams {
  const streams = new Set<OpenStream>();
  /** How many streams depend on a conversation. */
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
