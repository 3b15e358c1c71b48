import type { IncomingBody } from "../../lib/http-client/incoming-body.ts";

/** Bytes of an error's body; no error needs more, and the log keeps far less. */
const ERROR_BODY_BYTES_MAX = 64 * 1024;

/** How long the body of an error may take: the status is known already, and the next model waits. */
export const ERROR_BODY_MS_MAX = 2_000;

/**
 * The first bytes of the body of an error: up to ERROR_BODY_BYTES_MAX and one packet, as far as they come within
 * ERROR_BODY_MS_MAX and before the connection breaks. The rest is not fetched.
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
    const timer = setTimeout(cut, ERROR_BODY_MS_MAX);
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
