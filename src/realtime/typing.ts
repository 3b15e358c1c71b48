import type { Bus } from "./bus.ts";

/** A user's `typing` is forwarded at most once in this time. */
export const TYPING_THROTTLE_MS = 2_000;
/** Without a new `typing.start` typing ends after this time: a stop can get lost. */
export const TYPING_EXPIRES_MS = 6_000;

/** A source of typing: a connection. */
type Source = object;
/** A user in a conversation. `sources` are their connections that are typing, each with its expiry. */
type Typist = { conversationId: string; userId: string; announcedAtMs: number; sources: Map<Source, Timer> };

type Dependencies = { bus: Pick<Bus, "publish" | "subscribe">; instanceId: string };

/** Typing on this instance: never stored, never replayed. A user types while at least one of their connections does. */
export function createTyping({ bus, instanceId }: Dependencies) {
  const typists = new Map<string, Typist>();
  /** Where each typing connection types, to stop it when the connection closes. */
  const typistsBySource = new Map<Source, Set<Typist>>();

  function announce({ conversationId: conversation_id, userId: user_id }: Typist, active: boolean): void {
    const expires_in_ms = active ? TYPING_EXPIRES_MS : 0;
    const about = { conversation_id, user_id, active, expires_in_ms, instance_id: instanceId };
    bus.publish(conversation_id, () => [{ type: "typing", ...about }]);
  }

  function add(typist: Typist, source: Source): void {
    clearTimeout(typist.sources.get(source));
    const expire = () => {
      if (remove(typist, source)) end(typist);
    };
    typist.sources.set(source, setTimeout(expire, TYPING_EXPIRES_MS));
    const typistsOfSource = typistsBySource.get(source) ?? new Set();
    typistsBySource.set(source, typistsOfSource.add(typist));
  }

  /** @returns whether it was the last connection of the user that typed there. */
  function remove(typist: Typist, source: Source): boolean {
    const expiry = typist.sources.get(source);
    if (!expiry) return false;
    clearTimeout(expiry);
    typist.sources.delete(source);
    const places = typistsBySource.get(source);
    places?.delete(typist);
    if (places?.size === 0) typistsBySource.delete(source);
    return typist.sources.size === 0;
  }

  function end(typist: Typist): void {
    announce(typist, false);
    const sinceMs = Date.now() - typist.announcedAtMs;
    // The entry stays until the throttle is over: alternating start and stop must not bypass it.
    setTimeout(() => forget(typist), Math.max(0, TYPING_THROTTLE_MS - sinceMs));
  }

  function forget({ conversationId, userId, sources }: Typist): void {
    if (sources.size === 0) typists.delete(nameTypist(conversationId, userId));
  }

  function stop(conversationId: string, userId: string, source: Source): void {
    const typist = typists.get(nameTypist(conversationId, userId));
    if (typist && remove(typist, source)) end(typist);
  }

  /** Ends all typing of a former member. */
  function stopAll(conversationId: string, userId: string): void {
    const typist = typists.get(nameTypist(conversationId, userId));
    if (!typist || typist.sources.size === 0) return;
    for (const source of [...typist.sources.keys()]) remove(typist, source);
    end(typist);
  }

  // The typing connection may not listen to the conversation, so its room may not be open here.
  bus.subscribe("conversations", {
    onMessage(message) {
      if (
        message.type === "conversation.changed" &&
        message.event === "member.removed" &&
        message.user_id !== undefined
      )
        stopAll(message.conversation_id, message.user_id);
    },
    onGap: () => {},
  });

  return {
    /** A connection of the user types. Only for users who may write in the conversation. */
    start(conversationId: string, userId: string, source: Source): void {
      const key = nameTypist(conversationId, userId);
      const typist = typists.get(key) ?? {
        conversationId,
        userId,
        announcedAtMs: Number.NEGATIVE_INFINITY,
        sources: new Map<Source, Timer>(),
      };
      const nowMs = Date.now();
      const isThrottled = nowMs - typist.announcedAtMs < TYPING_THROTTLE_MS;
      if (isThrottled && typist.sources.size === 0) return;
      add(typist, source);
      typists.set(key, typist);
      if (isThrottled) return;
      typist.announcedAtMs = nowMs;
      announce(typist, true);
    },

    /** The connection's user has stopped typing there, sent the message, or left. */
    stop,

    /** The connection is closed. */
    leave(source: Source): void {
      for (const typist of [...(typistsBySource.get(source) ?? [])]) if (remove(typist, source)) end(typist);
    },
  };
}

const nameTypist = (conversationId: string, userId: string): string => `${conversationId}/${userId}`;

export type Typing = ReturnType<typeof createTyping>;
