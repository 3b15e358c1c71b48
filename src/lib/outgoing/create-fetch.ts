import { build } from "../build.ts";
import { type IncomingResponse, sendRequest } from "../http-client/client.ts";
import type { IncomingBody } from "../http-client/incoming-body.ts";
import { prepareRequest } from "../http-client/prepared-request.ts";
import { parseUserinfo } from "../userinfo.ts";
import type { FindProxy } from "./find-proxy.ts";

export type Fetch = (address: string | URL, init?: RequestInit) => Promise<Response>;

const REDIRECTS_MAX = 5;
/** Maximum number of response bytes in the buffer. When it is full, the server has to wait (backpressure). */
const BUFFERED_BYTES_MAX = 256 * 1024;

/**
 * Creates a `fetch` that uses Parley's HTTP client and the configured proxies, for URLs set by the administrator. It follows
 * redirects only within one origin, so that credentials and content are sent only to the configured server.
 */
export function createFetch(findProxy: FindProxy): Fetch {
  return async (address, init) => {
    const userinfo = parseUserinfo(String(address));
    let url = new URL(userinfo?.url ?? address);
    const request = new Request(url.href, init);
    // The HTTP client would wait for the body that a response to HEAD announces but doesn't have.
    if (request.method === "HEAD") throw new TypeError("HEAD requests are not supported");
    const { headers } = request;
    const signal = init?.signal ?? request.signal;
    if (!headers.has("accept")) headers.set("accept", "*/*");
    if (!headers.has("user-agent")) headers.set("user-agent", `Parley/${build.version}`);
    if (userinfo && !headers.has("authorization")) headers.set("authorization", userinfo.authorization);
    let { method } = request;
    let body: Uint8Array = new Uint8Array(await request.arrayBuffer());
    for (let redirects = 0; ; redirects += 1) {
      const prepared = prepareRequest({ url, method, headers, proxy: findProxy(url) });
      const response = await sendRequest(prepared, body, { signal });
      const location = isRedirect(response.status) ? response.headers.get("location") : null;
      if (location === null || request.redirect === "manual") return toResponse(response, signal);
      response.body.abort();
      url = resolveRedirect(url, location, request.redirect === "error" ? 0 : REDIRECTS_MAX - redirects);
      // Browsers also continue with a GET.
      if (response.status === 303 || (method === "POST" && response.status <= 302)) {
        method = "GET";
        body = new Uint8Array();
        headers.delete("content-type");
      }
    }
  };
}

const isRedirect = (status: number): boolean => [301, 302, 303, 307, 308].includes(status);

function resolveRedirect(from: URL, location: string, remainingRedirects: number): URL {
  const to = URL.parse(location, from.href);
  if (remainingRedirects <= 0) throw new TypeError(`${from.origin} redirects more often than allowed`);
  if (to?.origin !== from.origin)
    throw new TypeError(
      `${from.origin} redirects to ${to?.origin ?? "an invalid URL"}, which is not followed; set the final URL`,
    );
  return to;
}

/** Statuses of responses without a body. */
const bodilessStatuses = [204, 205, 304];
/** Parley doesn't request compression, but some servers send compressed content anyway. */
const codings = { gzip: "gzip", "x-gzip": "gzip", deflate: "deflate" } as const;

function toResponse({ status, headers, body }: IncomingResponse, signal: AbortSignal): Response {
  if (bodilessStatuses.includes(status)) {
    body.abort();
    return new Response(null, { status, headers });
  }
  const stream = toStream(body, signal);
  const coding = headers.get("content-encoding")?.toLowerCase() ?? "identity";
  if (coding === "identity") return new Response(stream, { status, headers });
  if (!(coding in codings)) {
    body.abort();
    throw new TypeError(`the response has an unsupported compression (${coding.slice(0, 20)})`);
  }
  headers.delete("content-encoding");
  headers.delete("content-length");
  const decompressed = stream.pipeThrough(new DecompressionStream(codings[coding as keyof typeof codings]));
  return new Response(decompressed, { status, headers });
}

/** Converts a body to a stream that applies backpressure to the server. */
function toStream(body: IncomingBody, signal: AbortSignal): ReadableStream<Uint8Array<ArrayBuffer>> {
  return new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      start(controller) {
        body.listen({
          onBytes(bytes) {
            controller.enqueue(new Uint8Array(bytes));
            if ((controller.desiredSize ?? 0) <= 0) body.pause();
          },
          onEnd(error) {
            if (error) controller.error(signal.aborted ? signal.reason : error);
            else controller.close();
          },
        });
      },
      pull: () => body.resume(),
      cancel: () => body.abort(),
    },
    { highWaterMark: BUFFERED_BYTES_MAX, size: (bytes) => bytes?.byteLength ?? 0 },
  );
}
