import type { IncomingBody } from "./client.ts";

/** Bytes of an answer that is read only to say in the log what went wrong. */
const ERROR_BODY_BYTES_MAX = 64 * 1024;

/** The first bytes of a body, up to ERROR_BODY_BYTES_MAX and one packet; the rest is not fetched. */
export function readStart(body: IncomingBody): Promise<Blob> {
  return new Promise((resolve, reject) => {
    const chunks: Uint8Array<ArrayBuffer>[] = [];
    let bytes = 0;
    body.listen({
      onBytes(chunk) {
        chunks.push(new Uint8Array(chunk));
        bytes += chunk.byteLength;
        if (bytes < ERROR_BODY_BYTES_MAX) return;
        body.abort();
        resolve(new Blob(chunks));
      },
      onEnd: (error) => (error ? reject(error) : resolve(new Blob(chunks))),
    });
  });
}
