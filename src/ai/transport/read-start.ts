import type { IncomingBody } from "../../lib/http-client/incoming-body.ts";

/** Maximum number of bytes that are read from an error's body. */
const ERROR_BODY_BYTES_MAX = 64 * 1024;

/** Timeout for reading an error's body. It is short, since the next model has to wait. */
export const ERROR_BODY_TIMEOUT_MS = 2_000;

/**
 * Reads the start of an error's body, then aborts the response. Resolves with the bytes received until the timeout, or until
 * the connection closes. Never rejects.
 */
export function readStart(body: IncomingBody): Promise<Blob> {
  return new Promise((resolve) => {
    const chunks: Uint8Array<ArrayBuffer>[] = [];
    let bytes = 0;
    const end = () => {
      clearTimeout(timer);
      resolve(new Blob(chunks));
    };
    const abort = () => {
      body.abort();
      end();
    };
    const timer = setTimeout(abort, ERROR_BODY_TIMEOUT_MS);
    body.listen({
      onBytes(chunk) {
        chunks.push(new Uint8Array(chunk));
        bytes += chunk.byteLength;
        if (bytes >= ERROR_BODY_BYTES_MAX) abort();
      },
      onEnd: end,
    });
  });
}
