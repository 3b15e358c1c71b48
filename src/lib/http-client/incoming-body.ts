import type { SentRequest } from "./connection.ts";

/** Bytes of an answer that may wait for somebody who reads it; then the server has to wait. */
const UNREAD_BYTES_MAX = 256 * 1024;

export type BodyListener = {
  onBytes(bytes: Uint8Array): void;
  /** Null: the body is whole. Nothing comes after it. */
  onEnd(error: Error | null): void;
};

export type IncomingBody = {
  /** Once, by one listener; what has come so far comes at once. */
  listen(listener: BodyListener): void;
  pause(): void;
  resume(): void;
  /** Gives the rest up: the connection is closed, the listener hears no more. */
  abort(): void;
};

/** The body of an answer. It is kept until somebody listens, and the server waits when that is much. */
export function createIncomingBody(sent: SentRequest): IncomingBody & BodyListener {
  let listener: BodyListener | null = null;
  let unread: Uint8Array[] = [];
  let unreadBytes = 0;
  let end: { error: Error | null } | null = null;
  let isGivenUp = false;

  return {
    listen(given) {
      listener = given;
      const waiting = unread;
      unread = [];
      if (unreadBytes > UNREAD_BYTES_MAX) sent.resume();
      for (const bytes of waiting) if (!isGivenUp) given.onBytes(bytes);
      if (end && !isGivenUp) given.onEnd(end.error);
    },
    pause: sent.pause,
    resume: sent.resume,
    abort() {
      isGivenUp = true;
      sent.abort(new Error("given up"));
    },
    onBytes(bytes) {
      if (isGivenUp) return;
      if (listener) return listener.onBytes(bytes);
      unread.push(bytes.slice());
      unreadBytes += bytes.byteLength;
      if (unreadBytes > UNREAD_BYTES_MAX) sent.pause();
    },
    onEnd(error) {
      end = { error };
      if (!isGivenUp) listener?.onEnd(error);
    },
  };
}
