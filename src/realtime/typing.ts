import type { Bus } from "./bus.ts";

/** A user's `typing` is sent on at most once in this time. */
export const TYPING_THROTTLE_MS = 2_000;
/** Without a new `typing.start` it ends by itself: a stop can get lost. */
export const TYPING_EXPIRES_MS = 6_000;

type Typist = { announcedAtMs: number; expiry: Timer | undefined };

/** Who is typing where, of those who do so on this instance. Never stored, never replayed. */
export function createTyping(bus: Bus) {
  const typists = new Map<string, Typist>();

  function announce(conversation_id: string, user_id: string, active: boolean): void {
    const expires_in_ms = active ? TYPING_EXPIRES_MS : 0;
    bus.publish(conversation_id, () => [{ type: "typing", conversation_id, user_id, active, expires_in_ms }]);
  }

  function stop(conversationId: string, userId: string): void {
    const typist = typists.get(`${conversationId}/${userId}`);
    if (!typist?.expiry) return;
    clearTimeout(typist.expiry);
    typist.expiry = undefined;
    announce(conversationId, userId, false);
    const sinceMs = Date.now() - typist.announcedAtMs;
    // The entry stays until the throttle is over: start and stop in turn must not get around it.
    setTimeout(() => forget(conversationId, userId), Math.max(0, TYPING_THROTTLE_MS - sinceMs));
  }

  function forget(conversationId: string, userId: string): void {
    const key = `${conversationId}/${userId}`;
    if (typists.get(key)?.expiry === undefined) typists.delete(key);
  }

  return {
    /** The user types. Call it for those only who may write in the conversation. */
    start(conversationId: string, userId: string): void {
      const key = `${conversationId}/${userId}`;
      const typist = typists.get(key) ?? { announcedAtMs: Number.NEGATIVE_INFINITY, expiry: undefined };
      const nowMs = Date.now();
      const isThrottled = nowMs - typist.announcedAtMs < TYPING_THROTTLE_MS;
      if (isThrottled && typist.expiry === undefined) return;
      clearTimeout(typist.expiry);
      typist.expiry = setTimeout(() => stop(conversationId, userId), TYPING_EXPIRES_MS);
      typists.set(key, typist);
      if (isThrottled) return;
      typist.announcedAtMs = nowMs;
      announce(conversationId, userId, true);
    },

    /** The user has stopped, sent what they typed, or left. */
    stop,
  };
}

export type Typing = ReturnType<typeof createTyping>;
