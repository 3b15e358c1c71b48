import type { HttpTarget } from "./open-socket.ts";
import { encodeCredentials, formatProxy, type ProxyRoute } from "./proxy.ts";

export type OutgoingRequest = { url: URL; method: string; headers: Headers; proxy?: ProxyRoute | null };

/** The encoded part that all requests to a URL share. It contains the credentials. */
export type PreparedRequest = HttpTarget & {
  /** The request line and all header fields except the content length. */
  head: Uint8Array;
  method: string;
};

/**
 * Encodes the part that all requests to a URL share. `Headers` has already rejected line breaks in names and values.
 */
export function prepareRequest({ url, method, headers, proxy = null }: OutgoingRequest): PreparedRequest {
  if (!/^[A-Z]+$/.test(method)) throw new TypeError(`The method ${method} cannot be sent.`);
  const fields = new Headers(headers);
  fields.delete("content-length");
  fields.set("host", url.host);
  fields.set("accept-encoding", "identity");
  fields.set("connection", "keep-alive");
  const lines = [...fields].map(([name, value]) => `${name}: ${value}\r\n`).join("");
  const path = `${url.pathname}${url.search}`;
  // Without a tunnel, the proxy needs the full URL (RFC 9112, 3.2.2).
  const [target, credentials] =
    proxy === null || proxy.isTunnel ? [path, ""] : [`http://${url.host}${path}`, encodeCredentials(proxy)];
  const head = Buffer.from(`${method} ${target} HTTP/1.1\r\n${credentials}${lines}`, "latin1");
  // Connections through a proxy are pooled separately from direct ones.
  const origin =
    proxy === null ? url.origin : `${url.origin} ${proxy.isTunnel ? "through" : "by"} ${formatProxy(proxy)}`;
  return { url, origin, head, method, proxy };
}

export function encodeRequest({ head, method }: PreparedRequest, body: string | Uint8Array): Uint8Array {
  const bytes = typeof body === "string" ? Buffer.from(body) : body;
  // A GET without a body has no content length (RFC 9110, 8.6).
  const length = method === "GET" && bytes.byteLength === 0 ? "" : `content-length: ${bytes.byteLength}\r\n`;
  return Buffer.concat([head, Buffer.from(`${length}\r\n`, "latin1"), bytes]);
}
