import { type IncomingBody, sendRequest } from "./http/client.ts";

/** Longer than every watchdog of the chain: those decide, and not the SDK, whose timeout ends with the headers. */
export const SDK_TIMEOUT_MS = 3_600_000;

/** Bytes of an answer that is read only to say in the log what went wrong. */
const ERROR_BODY_BYTES_MAX = 64 * 1024;

const bodies = new WeakMap<Response, IncomingBody>();

/**
 * `fetch` for the SDKs, over our own client: Bun's own `fetch` runs at most 256 requests at once in the whole process and
 * lets all others wait, unless told otherwise by the environment before it starts, which would bound the answers of an
 * instance, and let the watchdog blame a model for our own queue; and every stream object costs more than the answer that
 * goes through it (docs/decisions/0005). Redirects are not followed, and error answers are cut to ERROR_BODY_BYTES_MAX,
 * which the SDKs would read without end. The body of a good answer is read by `takeBody` alone.
 */
export async function httpFetch(input: string | URL | Request, init: RequestInit = {}): Promise<Response> {
  const url = new URL(input instanceof Request ? input.url : input);
  const { body = "", method = "GET", signal = null } = init;
  if (body !== null && typeof body !== "string") throw new TypeError("Only text can be sent.");
  const sent = await sendRequest({ url, method, headers: new Headers(init.headers), body: body ?? "", signal });
  const { status, headers } = sent;
  if (status >= 200 && status <= 299 && status !== 204) {
    const response = new Response(null, { status, headers });
    bodies.set(response, sent.body);
    return response;
  }
  // A Response takes no body with some.
  const start = status === 204 || status === 304 ? null : await readStart(sent.body);
  return new Response(start, { status, headers });
}

/** The body of a good answer of `httpFetch`; undefined for any other. */
export const takeBody = (response: Response): IncomingBody | undefined => bodies.get(response);

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
