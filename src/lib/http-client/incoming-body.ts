import type { SentRequest } from "./connection.ts";

/** Maximum buffered bytes of a response; beyond that, the server has to wait (backpressure). */
const UNREAD_BYTES_MAX = 256 * 1024;

export type BodyListener = {
  onBytes(bytes: Uint8Array): void;
  /** Null: the body is complete. No event follows. */
  onEnd(error: Error | null): void;
};

export type IncomingBody = {
  /** Call it once. The listener immediately receives what has arrived so far. */
  listen(listener: BodyListener): void;
  pause(): void;
  resume(): void;
  /** Aborts the response: the connection is closed, and the listener gets no more events. */
  abort(): void;
};

/** The body of a response. It is buffered until there is a listener, with backpressure. */
export function createIncomingBody(sent: SentRequest): IncomingBody & BodyListener {
  let listener: BodyListener | null = null;
  let unread: Uint8Array[] = [];
  let unreadBytes = 0;
  let end: { error: Error | null } | null = null;
  let isAborted = false;

  return {
    listen(newListener) {
      listener = newListener;
      const waiting = unread;
      unread = [];
      if (unreadBytes > UNREAD_BYTES_MAX) sent.resume();
      for (const bytes of waiting) if (!isAborted) newListener.onBytes(bytes);
      if (end && !isAborted) newListener.onEnd(end.error);
    },
    pause: sent.pause,
    resume: sent.resume,
    abort() {
      isAborted = true;
      sent.abort(new Error("aborted by the reader"));
    },
    onBytes(bytes) {
      if (isAborted) return;
      if (listener) return listener.onBytes(bytes);
      unread.push(bytes.slice());
      unreadBytes += bytes.byteLength;
      if (unreadBytes > UNREAD_BYTES_MAX) sent.pause();
    },
    onEnd(error) {
      end = { error };
      if (!isAborted) listener?.onEnd(error);
    },
  };
}
