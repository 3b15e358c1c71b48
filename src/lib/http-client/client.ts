import type { HttpConnection } from "./connection.ts";
import { type ConnectionPool, createConnectionPool } from "./connection-pool.ts";
import { type BodyListener, createIncomingBody, type IncomingBody } from "./incoming-body.ts";
import { encodeRequest, type PreparedRequest } from "./prepared-request.ts";
import { createProxyRejection, PROXY_AUTHENTICATION_REQUIRED } from "./proxy.ts";
import type { ResponseHead } from "./response-parser.ts";

/**
 * A request is sent again only if its reused connection is closed within this time after the request was sent. If the server
 * had already closed the idle connection, the close arrives within one round trip. After a longer time, the server may have
 * started a response that costs money, so the caller has to decide whether to retry.
 */
export const RESEND_MS_MAX = 1_000;

/** A response whose headers have arrived. */
export type IncomingResponse = ResponseHead & { body: IncomingBody };

/** The connection pool for servers configured by the administrator. */
const sharedPool = createConnectionPool({ idlePerServerMax: 256, idleMax: 4_096 });

export type SendOptions = {
  signal: AbortSignal | null;
  /** Called when the request is sent again because the server had closed the reused connection. */
  onResend?: (() => void) | undefined;
  /** The connection pool. By default, all requests share one. */
  pool?: ConnectionPool;
  /** Called for each packet from the server, including interim responses. */
  onBytes?: (() => void) | undefined;
};

/** A request with its callbacks. */
type PendingRequest = {
  request: PreparedRequest;
  bytes: Uint8Array;
  signal: AbortSignal | null;
  onResend: (() => void) | undefined;
  onBytes: (() => void) | undefined;
  pool: ConnectionPool;
  resolve(response: IncomingResponse): void;
  reject(error: unknown): void;
};

/**
 * Sends an HTTP/1.1 request and resolves when the response's headers have arrived. The body is delivered without a stream object
 * or a promise per packet, because those would use most of the CPU time. Connections are reused. Redirects aren't followed.
 *
 * The request is sent again on a new connection only if a reused connection was closed immediately, before any byte arrived.
 * @throws the signal's reason if it aborts before the headers arrive, or Error if there is no response.
 */
export function sendRequest(
  request: PreparedRequest,
  body: string | Uint8Array,
  { signal, onResend, onBytes, pool = sharedPool }: SendOptions,
): Promise<IncomingResponse> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const bytes = encodeRequest(request, body);
    const pending = { request, bytes, signal, onResend, onBytes, pool, resolve, reject };
    transmitRequest(pool.acquire(request), pending);
  });
}

function transmitRequest(connection: HttpConnection, pending: PendingRequest): void {
  const { request, bytes, signal, onResend, onBytes, pool, resolve, reject } = pending;
  const { isReused } = connection;
  const sentAtMs = performance.now();
  let body: (IncomingBody & BodyListener) | null = null;
  const onAbort = () => {
    // Rejects with the signal's reason before `abort` rejects with its own error. Has no effect if the promise has resolved.
    reject(signal?.reason);
    sentRequest.abort(new Error("aborted"));
  };
  signal?.addEventListener("abort", onAbort, { once: true });
  const sentRequest = connection.send(bytes, {
    onBytes,
    onHead(head) {
      const { url, proxy } = request;
      // With a tunnel, the response comes from the server rather than the proxy.
      if (proxy && !proxy.isTunnel && head.status === PROXY_AUTHENTICATION_REQUIRED)
        return sentRequest.abort(createProxyRejection(proxy, url.host, head.status));
      body = createIncomingBody(sentRequest);
      resolve({ ...head, body });
    },
    onBody: (packet) => body?.onBytes(packet),
    onClose(error) {
      signal?.removeEventListener("abort", onAbort);
      if (body) return body.onEnd(error);
      const isStale = isReused && !connection.hasResponded && performance.now() - sentAtMs <= RESEND_MS_MAX;
      if (!isStale || signal?.aborted) return reject(error ?? new Error("connection lost"));
      onResend?.();
      transmitRequest(pool.open(request), pending);
    },
  });
}
