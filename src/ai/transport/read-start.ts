import type { IncomingBody } from "../../lib/http-client/incoming-body.ts";

/** Bytes kept of an error's body; no error needs more, and the log keeps far less. */
const ERROR_BODY_BYTES_MAX = 64 * 1024;

/** How long to wait for an error's body: its status is already known, and the next model is waiting. */
export const ERROR_BODY_TIMEOUT_MS = 2_000;

/**
 * Reads the start of an error's body: up to ERROR_BODY_BYTES_MAX plus one packet, within ERROR_BODY_TIMEOUT_MS and while the
 * connection lasts. The rest isn't fetched.
 */
export function readStart(body: IncomingBody): Promise<Blob> {
  return new Promise((resolve) => {
    const chunks: Uint8Array<ArrayBuffer>[] = [];
    let bytes = 0;
    const end = () => {
      clearTimeout(timer);
      resolve(new Blob(chunks));
    };
    const cut = () => {
      body.abort();
      end();
    };
    const timer = setTimeout(cut, ERROR_BODY_TIMEOUT_MS);
    body.listen({
      onBytes(chunk) {
        chunks.push(new Uint8Array(chunk));
        bytes += chunk.byteLength;
        if (bytes >= ERROR_BODY_BYTES_MAX) cut();
      },
      onEnd: end,
    });
  });
}
