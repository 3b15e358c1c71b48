import type { SentRequest } from "./connection.ts";

/** Maximum size of a buffered response. Beyond it, the server has to wait (backpressure). */
const BUFFERED_BYTES_MAX = 256 * 1024;

export type BodyListener = {
  onBytes(bytes: Uint8Array): void;
  /** Called at the end. `error` is null if the body is complete. */
  onEnd(error: Error | null): void;
};

export type IncomingBody = {
  /** Sets the listener, which immediately receives the buffered bytes. Must be called only once. */
  listen(listener: BodyListener): void;
  pause(): void;
  resume(): void;
  /** Closes the connection. The listener is no longer called. */
  abort(): void;
};

/** Creates a response body. It is buffered until there is a listener. */
export function createIncomingBody(sentRequest: SentRequest): IncomingBody & BodyListener {
  let listener: BodyListener | null = null;
  let bufferedChunks: Uint8Array[] = [];
  let bufferedBytes = 0;
  let end: { error: Error | null } | null = null;
  let isAborted = false;

  return {
    listen(newListener) {
      listener = newListener;
      const receivedChunks = bufferedChunks;
      bufferedChunks = [];
      if (bufferedBytes > BUFFERED_BYTES_MAX) sentRequest.resume();
      for (const bytes of receivedChunks) if (!isAborted) newListener.onBytes(bytes);
      if (end && !isAborted) newListener.onEnd(end.error);
    },
    pause: sentRequest.pause,
    resume: sentRequest.resume,
    abort() {
      isAborted = true;
      sentRequest.abort(new Error("aborted by the reader"));
    },
    onBytes(bytes) {
      if (isAborted) return;
      if (listener) return listener.onBytes(bytes);
      bufferedChunks.push(bytes.slice());
      bufferedBytes += bytes.byteLength;
      if (bufferedBytes > BUFFERED_BYTES_MAX) sentRequest.pause();
    },
    onEnd(error) {
      end = { error };
      if (!isAborted) listener?.onEnd(error);
    },
  };
}
