import type { HttpTarget } from "./connection.ts";

export type OutgoingRequest = { url: URL; method: string; headers: Headers };

/** What requests to one address have in common, encoded; it holds the key. */
export type PreparedRequest = HttpTarget & {
  /** The request line and every header field but the length of the body. */
  head: Uint8Array;
};

/**
 * Encodes once what all requests to this address have in common. `Headers` has checked that no name or value holds a line
 * end.
 */
export function prepareRequest({ url, method, headers }: OutgoingRequest): PreparedRequest {
  if (!/^[A-Z]+$/.test(method)) throw new TypeError(`The method ${method} cannot be sent.`);
  const fields = new Headers(headers);
  fields.delete("content-length");
  fields.set("host", url.host);
  fields.set("accept-encoding", "identity");
  fields.set("connection", "keep-alive");
  const lines = [...fields].map(([name, value]) => `${name}: ${value}\r\n`).join("");
  const head = Buffer.from(`${method} ${url.pathname}${url.search} HTTP/1.1\r\n${lines}`, "latin1");
  return { url, origin: url.origin, head };
}

export function encodeRequest({ head }: PreparedRequest, body: string | Uint8Array): Uint8Array {
  const bytes = typeof body === "string" ? Buffer.from(body) : body;
  return Buffer.concat([head, Buffer.from(`content-length: ${bytes.byteLength}\r\n\r\n`, "latin1"), bytes]);
}
