import type { HttpConnection } from "./connection.ts";
import { type ConnectionPool, createConnectionPool } from "./connection-pool.ts";
import { type BodyListener, createIncomingBody, type IncomingBody } from "./incoming-body.ts";
import { encodeRequest, type PreparedRequest } from "./prepared-request.ts";
import { createProxyRejection, PROXY_AUTHENTICATION_REQUIRED } from "./proxy.ts";
import type { ResponseHead } from "./response-parser.ts";

/**
 * A request is resent only if its reused connection is closed within this time. If the server had already closed the idle
 * connection, the client learns it within one round trip. Later, the server may have started a response that costs money, so
 * the caller has to decide whether to retry.
 */
export const RESEND_MS_MAX = 1_000;

/** A response whose headers have arrived. */
export type IncomingResponse = ResponseHead & { body: IncomingBody };

/** The connection pool for servers configured by the administrator. */
const sharedPool = createConnectionPool({ idlePerServerMax: 256, idleMax: 4_096 });

export type SendOptions = {
  signal: AbortSignal | null;
  /** Called when the request is resent because the server had closed the reused connection. */
  onRepeat?: (() => void) | undefined;
  /** The connection pool. By default, all requests share one. */
  pool?: ConnectionPool;
  /** Called for each packet from the server, including interim responses. */
  onBytes?: (() => void) | undefined;
};

/** A request with its callbacks. */
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
 * Sends an HTTP/1.1 request and resolves when the response's headers have arrived. The body is delivered without a stream object
 * or a promise per packet, because those would use most of the CPU time. Connections are reused. Redirects aren't followed.
 *
 * The request is resent on a new connection only if a reused connection was closed immediately, before any byte arrived.
 * @throws the signal's reason if it aborts before the headers arrive, or Error if there is no response.
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
    transmit(pool.acquire(request), pending);
  });
}

function transmit(connection: HttpConnection, pending: Pending): void {
  const { request, bytes, signal, onRepeat, onBytes, pool, resolve, reject } = pending;
  const { isReused } = connection;
  const sentAtMs = performance.now();
  let body: (IncomingBody & BodyListener) | null = null;
  const onAbort = () => {
    // Closing the connection would reject with another error. Has no effect after the promise has resolved.
    reject(signal?.reason);
    sent.abort(new Error("aborted"));
  };
  signal?.addEventListener("abort", onAbort, { once: true });
  const sent = connection.send(bytes, {
    onBytes,
    onHead(head) {
      const { url, proxy } = request;
      // With a tunnel, the response comes from the server rather than the proxy.
      if (proxy && !proxy.isTunnel && head.status === PROXY_AUTHENTICATION_REQUIRED)
        return sent.abort(createProxyRejection(proxy, url.host, head.status));
      body = createIncomingBody(sent);
      resolve({ ...head, body });
    },
    onBody: (packet) => body?.onBytes(packet),
    onClose(error) {
      signal?.removeEventListener("abort", onAbort);
      if (body) return body.onEnd(error);
      const isStale = isReused && !connection.hasResponded && performance.now() - sentAtMs <= RESEND_MS_MAX;
      if (!isStale || signal?.aborted) return reject(error ?? new Error("connection lost"));
      onRepeat?.();
      transmit(pool.open(request), pending);
    },
  });
}
