import type { IncomingBody } from "../../lib/http-client/incoming-body.ts";

/** Maximum number of bytes that are read from an error's body. */
const ERROR_BODY_BYTES_MAX = 64 * 1024;

/** Timeout for reading an error's body. It is short, because the next model is tried only after the body has been read. */
export const ERROR_BODY_TIMEOUT_MS = 2_000;

/**
 * Reads the start of an error's body, then aborts the response. Resolves with the bytes received until the timeout, or until
 * the connection closes. Never rejects.
 */
export function readBodyStart(body: IncomingBody): Promise<Blob> {
  return new Promise((resolve) => {
    const chunks: Uint8Array<ArrayBuffer>[] = [];
    let receivedBytes = 0;
    const finish = () => {
      clearTimeout(timer);
      resolve(new Blob(chunks));
    };
    const abort = () => {
      body.abort();
      finish();
    };
    const timer = setTimeout(abort, ERROR_BODY_TIMEOUT_MS);
    body.listen({
      onBytes(chunk) {
        chunks.push(new Uint8Array(chunk));
        receivedBytes += chunk.byteLength;
        if (receivedBytes >= ERROR_BODY_BYTES_MAX) abort();
      },
      onEnd: finish,
    });
  });
}
