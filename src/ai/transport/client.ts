import { HttpConnection } from "./connection.ts";
import type { ResponseHead } from "./response-parser.ts";

/** Connections that wait for the next request, per server; beyond that they are closed after use. */
const IDLE_CONNECTIONS_MAX = 256;
/**
 * One that has waited longer is not used again: what lies between (a load balancer, a NAT) may have forgotten it by then
 * without a word, and a request would wait in vain.
 */
export const IDLE_MS_MAX = 60_000;
/** Bytes of an answer that may wait for somebody who reads it; then the server has to wait. */
const UNREAD_BYTES_MAX = 256 * 1024;

export type OutgoingRequest = { url: URL; method: string; headers: Headers };

/** What requests to one address have in common, encoded; it holds the key. */
export type PreparedRequest = {
  url: URL;
  /** Names the server whose connections serve it. */
  origin: string;
  /** The request line and every header field but the length of the body. */
  head: Uint8Array;
};

/** An answer whose head has come. Its body is kept until somebody listens, and the server waits when that is much. */
export type IncomingResponse = ResponseHead & { body: IncomingBody };

type BodyListener = {
  onBytes(bytes: Uint8Array): void;
  /** Null: the body is whole. Nothing comes after it. */
  onEnd(error: Error | null): void;
};

export type IncomingBody = {
  /** Once, by one listener; what has come so far comes at once. */
  listen(listener: BodyListener): void;
  pause(): void;
  resume(): void;
  /** Gives the rest up: the connection is closed, the listener hears no more. */
  abort(): void;
};

const idle = new Map<string, HttpConnection[]>();

function takeConnection({ url, origin }: PreparedRequest): HttpConnection {
  for (let waiting = idle.get(origin)?.pop(); waiting; waiting = idle.get(origin)?.pop()) {
    if (Date.now() - waiting.idleSinceMs <= IDLE_MS_MAX) return waiting;
    waiting.abort(new Error("waited too long"));
  }
  return new HttpConnection(
    url,
    (connection) => {
      const list = idle.get(origin) ?? [];
      idle.set(origin, list);
      if (list.length < IDLE_CONNECTIONS_MAX) list.push(connection);
      else connection.abort(new Error("enough connections wait"));
    },
    (connection) => {
      const list = idle.get(origin) ?? [];
      const at = list.indexOf(connection);
      if (at >= 0) list.splice(at, 1);
      if (list.length === 0) idle.delete(origin);
    },
  );
}

/**
 * An HTTP/1.1 client for what is streamed: it hands on bytes as they come, without a stream object or a promise for each
 * packet, which cost more than all the rest of an answer. Connections are kept and used again; redirects are not followed.
 * @throws the signal's reason when it aborts before the head has come; Error when there is no answer.
 */
export function sendRequest(
  request: PreparedRequest,
  body: string,
  signal: AbortSignal | null,
): Promise<IncomingResponse> {
  return new Promise((resolve, reject) => exchange(request, encodeRequest(request, body), signal, resolve, reject));
}

function exchange(
  request: PreparedRequest,
  bytes: Uint8Array,
  signal: AbortSignal | null,
  resolve: (response: IncomingResponse) => void,
  reject: (error: unknown) => void,
): void {
  if (signal?.aborted) {
    reject(signal.reason);
    return;
  }
  const connection = takeConnection(request);
  const body = createBody(connection);
  let hasHead = false;
  const onAbort = () => {
    if (!hasHead) reject(signal?.reason);
    hasHead = true;
    connection.abort(new Error("aborted"));
  };
  signal?.addEventListener("abort", onAbort, { once: true });
  const { isReused } = connection;
  connection.send(bytes, {
    onHead(head) {
      hasHead = true;
      resolve({ ...head, body });
    },
    onBody: body.onBytes,
    onClose(error) {
      signal?.removeEventListener("abort", onAbort);
      if (hasHead) return body.onEnd(error);
      // The server closed a waiting connection at the very moment of its reuse: that is no failure of the model.
      if (isReused && !connection.hasAnswered) exchange(request, bytes, signal, resolve, reject);
      else reject(error ?? new Error("the connection broke"));
    },
  });
}

function createBody(connection: HttpConnection): IncomingBody & BodyListener {
  let listener: BodyListener | null = null;
  let unread: Uint8Array[] = [];
  let unreadBytes = 0;
  let end: { error: Error | null } | null = null;
  let isGivenUp = false;

  return {
    listen(given) {
      listener = given;
      const waiting = unread;
      unread = [];
      if (unreadBytes > UNREAD_BYTES_MAX) connection.resume();
      for (const bytes of waiting) if (!isGivenUp) given.onBytes(bytes);
      if (end && !isGivenUp) given.onEnd(end.error);
    },
    pause: () => {
      if (!end) connection.pause();
    },
    resume: () => {
      if (!end) connection.resume();
    },
    abort() {
      isGivenUp = true;
      // After its end the connection may serve another request already.
      if (!end) connection.abort(new Error("given up"));
    },
    onBytes(bytes) {
      if (isGivenUp) return;
      if (listener) return listener.onBytes(bytes);
      unread.push(bytes.slice());
      unreadBytes += bytes.byteLength;
      if (unreadBytes > UNREAD_BYTES_MAX) connection.pause();
    },
    onEnd(error) {
      end = { error };
      if (!isGivenUp) listener?.onEnd(error);
    },
  };
}

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

function encodeRequest({ head }: PreparedRequest, body: string): Uint8Array {
  const bytes = Buffer.from(body);
  return Buffer.concat([head, Buffer.from(`content-length: ${bytes.byteLength}\r\n\r\n`, "latin1"), bytes]);
}
