import { build } from "../build.ts";
import { type IncomingResponse, sendRequest } from "../http-client/client.ts";
import type { IncomingBody } from "../http-client/incoming-body.ts";
import { prepareRequest } from "../http-client/prepared-request.ts";
import { readUserinfo } from "../userinfo.ts";
import type { FindProxy } from "./find-proxy.ts";

/** The part of `fetch` that libraries use. */
export type Fetch = (address: string | URL, init?: RequestInit) => Promise<Response>;

const REDIRECTS_MAX = 5;
/** Buffered bytes of a response; beyond that, the server has to wait (backpressure). */
const UNREAD_BYTES_MAX = 256 * 1024;

/**
 * Creates a `fetch` for URLs set by the administrator, with our own HTTP client and the configured proxies. Redirects are
 * followed only within one origin, so that credentials and content stay with the configured server.
 */
export function createFetch(findProxy: FindProxy): Fetch {
  return async (address, init) => {
    const userinfo = readUserinfo(String(address));
    let url = new URL(userinfo?.url ?? address);
    const request = new Request(url.href, init);
    // A response to HEAD announces the length of a body that never comes, which the client would wait for.
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
      url = follow(url, location, request.redirect === "error" ? 0 : REDIRECTS_MAX - redirects);
      // The method changes as in browsers.
      if (response.status === 303 || (method === "POST" && response.status <= 302)) {
        method = "GET";
        body = new Uint8Array();
        headers.delete("content-type");
      }
    }
  };
}

const isRedirect = (status: number): boolean => [301, 302, 303, 307, 308].includes(status);

function follow(from: URL, location: string, left: number): URL {
  const to = URL.parse(location, from.href);
  if (left <= 0) throw new TypeError(`${from.origin} redirects more often than allowed`);
  if (to?.origin !== from.origin)
    throw new TypeError(
      `${from.origin} redirects to ${to?.origin ?? "an invalid URL"}, which is not followed; set the final URL`,
    );
  return to;
}

/** Statuses whose responses have no body. */
const bodiless = [204, 205, 304];
/** We don't accept compression, but some servers send stored compressed content anyway. */
const codings = { gzip: "gzip", "x-gzip": "gzip", deflate: "deflate" } as const;

function toResponse({ status, headers, body }: IncomingResponse, signal: AbortSignal): Response {
  if (bodiless.includes(status)) {
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

/** With backpressure to the server. */
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
    { highWaterMark: UNREAD_BYTES_MAX, size: (bytes) => bytes?.byteLength ?? 0 },
  );
}
