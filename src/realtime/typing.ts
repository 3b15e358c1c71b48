import type { Bus } from "./bus.ts";

/** The minimum interval between two announcements that a user is typing. */
export const TYPING_THROTTLE_MS = 2_000;
/** Typing ends after this time unless there is a new `typing.start`, because a `typing.stop` can get lost. */
export const TYPING_EXPIRES_MS = 6_000;

/** The connection on which a user is typing. */
type Source = object;
/** A user who is typing in a conversation. `sources` are the connections on which the user is typing, with their timers. */
type Typist = { conversationId: string; userId: string; announcedAtMs: number; sources: Map<Source, Timer> };

type Dependencies = { bus: Pick<Bus, "publish" | "subscribe">; instanceId: string };

/**
 * Creates the tracker of the users who are typing on this instance. A user counts as typing while at least one of their connections reports it. Typing is
 * never stored or replayed.
 */
export function createTypingTracker({ bus, instanceId }: Dependencies) {
  const typists = new Map<string, Typist>();
  /** The typists on each connection, whose typing ends when the connection closes. */
  const typistsBySource = new Map<Source, Set<Typist>>();

  function announce({ conversationId: conversation_id, userId: user_id }: Typist, active: boolean): void {
    const expires_in_ms = active ? TYPING_EXPIRES_MS : 0;
    const fields = { conversation_id, user_id, active, expires_in_ms, instance_id: instanceId };
    bus.publish(conversation_id, () => [{ type: "typing", ...fields }]);
  }

  function addSource(typist: Typist, source: Source): void {
    clearTimeout(typist.sources.get(source));
    const expire = () => {
      if (removeSource(typist, source)) endTyping(typist);
    };
    typist.sources.set(source, setTimeout(expire, TYPING_EXPIRES_MS));
    const sourceTypists = typistsBySource.get(source) ?? new Set();
    typistsBySource.set(source, sourceTypists.add(typist));
  }

  /** Removes a connection. @returns whether it was the last one on which the user was typing in the conversation. */
  function removeSource(typist: Typist, source: Source): boolean {
    const expiry = typist.sources.get(source);
    if (!expiry) return false;
    clearTimeout(expiry);
    typist.sources.delete(source);
    const sourceTypists = typistsBySource.get(source);
    sourceTypists?.delete(typist);
    if (sourceTypists?.size === 0) typistsBySource.delete(source);
    return typist.sources.size === 0;
  }

  function endTyping(typist: Typist): void {
    announce(typist, false);
    const elapsedMs = Date.now() - typist.announcedAtMs;
    // The entry is kept until the interval is over, so that alternating start and stop can't bypass the throttle.
    setTimeout(() => forget(typist), Math.max(0, TYPING_THROTTLE_MS - elapsedMs));
  }

  function forget({ conversationId, userId, sources }: Typist): void {
    if (sources.size === 0) typists.delete(createTypistKey(conversationId, userId));
  }

  function stop(conversationId: string, userId: string, source: Source): void {
    const typist = typists.get(createTypistKey(conversationId, userId));
    if (typist && removeSource(typist, source)) endTyping(typist);
  }

  /** Ends all typing of a user who is no longer a member. */
  function stopAll(conversationId: string, userId: string): void {
    const typist = typists.get(createTypistKey(conversationId, userId));
    if (!typist || typist.sources.size === 0) return;
    for (const source of [...typist.sources.keys()]) removeSource(typist, source);
    endTyping(typist);
  }

  // A connection may report typing without being subscribed to the conversation. In that case, the hub may have no room that would handle
  // the removal.
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
    /** Records that a user is typing on a connection. The caller must have checked that the user may write in the conversation. */
    start(conversationId: string, userId: string, source: Source): void {
      const key = createTypistKey(conversationId, userId);
      const typist = typists.get(key) ?? {
        conversationId,
        userId,
        announcedAtMs: Number.NEGATIVE_INFINITY,
        sources: new Map<Source, Timer>(),
      };
      const nowMs = Date.now();
      const isThrottled = nowMs - typist.announcedAtMs < TYPING_THROTTLE_MS;
      if (isThrottled && typist.sources.size === 0) return;
      addSource(typist, source);
      typists.set(key, typist);
      if (isThrottled) return;
      typist.announcedAtMs = nowMs;
      announce(typist, true);
    },

    /** Records that a user has stopped typing on a connection, sent the message, or left the conversation. */
    stop,

    /** Ends all typing on a connection that was closed. */
    leave(source: Source): void {
      for (const typist of [...(typistsBySource.get(source) ?? [])])
        if (removeSource(typist, source)) endTyping(typist);
    },
  };
}

const createTypistKey = (conversationId: string, userId: string): string => `${conversationId}/${userId}`;

export type TypingTracker = ReturnType<typeof createTypingTracker>;
