import type { HttpConnection } from "./connection.ts";
import { type ConnectionPool, createConnectionPool } from "./connection-pool.ts";
import { type BodyListener, createIncomingBody, type IncomingBody } from "./incoming-body.ts";
import { encodeRequest, type PreparedRequest } from "./prepared-request.ts";
import { createProxyRefusal, PROXY_AUTHENTICATION_REQUIRED } from "./proxy.ts";
import type { ResponseHead } from "./response-parser.ts";

/**
 * How soon after a request its connection must have closed for it to be sent again. A server that closed a waiting
 * connection says so in one round trip. One that closes later may have begun an answer that costs money: that is a failure,
 * and the caller counts its attempts.
 */
export const REPEAT_MS_MAX = 1_000;

/** An answer whose head has come. */
export type IncomingResponse = ResponseHead & { body: IncomingBody };

/** For servers that the administrator names, which are few. */
const sharedPool = createConnectionPool({ idlePerServerMax: 256, idleMax: 4_096 });

export type SendOptions = {
  signal: AbortSignal | null;
  /** The request is sent once more: the server had closed the waiting connection that it was sent on. */
  onRepeat?: (() => void) | undefined;
  /** Where connections are kept; by default with those of everybody else. */
  pool?: ConnectionPool;
  /** Called for each packet of the server, before it is read: what comes before the answer is a sign of life too. */
  onBytes?: (() => void) | undefined;
};

/** One request, with whom it is for. */
type Pending = {
  request: PreparedRequest;
  bytes: Uint8Array;
  signal: AbortSignal | null;
  onRepeat: (() => void) | undefined;
  onBytes: (() => void) | undefined;
  pool: ConnectionPool;
  resolve(response: IncomingResponse): void;
  reject(error: unknown): void;
};

/**
 * An HTTP/1.1 client for what is streamed: it hands on bytes as they come, without a stream object or a promise for each
 * packet, which cost more than all the rest of an answer. Connections are kept and used again; redirects are not followed.
 *
 * A request is sent once. If it went out on a connection that was used before, and the server closed that at once without a
 * byte, it is sent once more, on a new connection.
 * @throws the signal's reason when it aborts before the head has come; Error when there is no answer.
 */
export function sendRequest(
  request: PreparedRequest,
  body: string | Uint8Array,
  { signal, onRepeat, onBytes, pool = sharedPool }: SendOptions,
): Promise<IncomingResponse> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const bytes = encodeRequest(request, body);
    const pending = { request, bytes, signal, onRepeat, onBytes, pool, resolve, reject };
    transmit(pool.take(request), pending);
  });
}

function transmit(connection: HttpConnection, pending: Pending): void {
  const { request, bytes, signal, onRepeat, onBytes, pool, resolve, reject } = pending;
  const { isReused } = connection;
  const sentAtMs = performance.now();
  let body: (IncomingBody & BodyListener) | null = null;
  const onAbort = () => {
    // Before the end of the request, which it brings about: a promise that is fulfilled already doesn't mind.
    reject(signal?.reason);
    sent.abort(new Error("aborted"));
  };
  signal?.addEventListener("abort", onAbort, { once: true });
  const sent = connection.send(bytes, {
    onBytes,
    onHead(head) {
      const { url, proxy } = request;
      // A tunnel refuses before it is open; what comes through it is the server's.
      if (proxy && !proxy.isTunnel && head.status === PROXY_AUTHENTICATION_REQUIRED)
        return sent.abort(createProxyRefusal(proxy, url.host, head.status));
      body = createIncomingBody(sent);
      resolve({ ...head, body });
    },
    onBody: (packet) => body?.onBytes(packet),
    onClose(error) {
      signal?.removeEventListener("abort", onAbort);
      if (body) return body.onEnd(error);
      const isStale = isReused && !connection.hasAnswered && performance.now() - sentAtMs <= REPEAT_MS_MAX;
      if (!isStale || signal?.aborted) return reject(error ?? new Error("the connection broke"));
      onRepeat?.();
      transmit(pool.open(request), pending);
    },
  });
}
