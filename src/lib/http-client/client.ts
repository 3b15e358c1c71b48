import type { HttpConnection } from "./connection.ts";
import { type ConnectionPool, createConnectionPool } from "./connection-pool.ts";
import { type BodyListener, createIncomingBody, type IncomingBody } from "./incoming-body.ts";
import { encodeRequest, type PreparedRequest } from "./prepared-request.ts";
import { createProxyRefusal, PROXY_AUTHENTICATION_REQUIRED } from "./proxy.ts";
import type { ResponseHead } from "./response-parser.ts";

/**
 * A request is retried only if its reused connection closed this soon. A server that closed an idle connection says so within
 * one round trip. If it closes later, it may have begun an answer that costs money: that is a failure, and the caller counts
 * its attempts.
 */
export const RESEND_MS_MAX = 1_000;

/** A response whose head has arrived. */
export type IncomingResponse = ResponseHead & { body: IncomingBody };

/** For servers configured by the administrator, which are few. */
const sharedPool = createConnectionPool({ idlePerServerMax: 256, idleMax: 4_096 });

export type SendOptions = {
  signal: AbortSignal | null;
  /** Called when the request is sent again, because the server had closed the reused connection. */
  onRepeat?: (() => void) | undefined;
  /** The connection pool; default: the shared one. */
  pool?: ConnectionPool;
  /** Called for each packet of the server, before it is parsed: interim responses are a sign of life, too. */
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
 * An HTTP/1.1 client for streaming: it passes on bytes as they arrive, without a stream object or a promise for each packet,
 * which would cost more than everything else. Connections are reused; redirects are not followed.
 *
 * A request is sent once. Only if it went out on a reused connection that the server closed immediately, without a byte, it is
 * sent once more on a new connection.
 * @throws the signal's reason if it aborts before the head arrives; Error if there is no response.
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
    // Reject before closing, which would reject with another error. If the promise is already fulfilled, this does nothing.
    reject(signal?.reason);
    sent.abort(new Error("aborted"));
  };
  signal?.addEventListener("abort", onAbort, { once: true });
  const sent = connection.send(bytes, {
    onBytes,
    onHead(head) {
      const { url, proxy } = request;
      // With a tunnel, the proxy refuses before it is open; later responses come from the server.
      if (proxy && !proxy.isTunnel && head.status === PROXY_AUTHENTICATION_REQUIRED)
        return sent.abort(createProxyRefusal(proxy, url.host, head.status));
      body = createIncomingBody(sent);
      resolve({ ...head, body });
    },
    onBody: (packet) => body?.onBytes(packet),
    onClose(error) {
      signal?.removeEventListener("abort", onAbort);
      if (body) return body.onEnd(error);
      const isStale = isReused && !connection.hasAnswered && performance.now() - sentAtMs <= RESEND_MS_MAX;
      if (!isStale || signal?.aborted) return reject(error ?? new Error("connection lost"));
      onRepeat?.();
      transmit(pool.open(request), pending);
    },
  });
}
