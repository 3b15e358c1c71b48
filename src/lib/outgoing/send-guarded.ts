import { abortable } from "../abortable.ts";
import { sendRequest } from "../http-client/client.ts";
import { createConnectionPool } from "../http-client/connection-pool.ts";
import { ConnectError, ProxyError } from "../http-client/errors.ts";
import { type PreparedRequest, prepareRequest } from "../http-client/prepared-request.ts";
import { PROXY_AUTHENTICATION_REQUIRED } from "../http-client/proxy.ts";
import { createAbandonedConnections } from "./abandoned-connections.ts";
import { mapToOutgoingError, OutgoingError, RejectedAddressError } from "./errors.ts";
import { type FindProxy, noProxy } from "./find-proxy.ts";
import { readUpTo } from "./read-up-to.ts";
import { createTargetResolver, type Lookup } from "./resolve-target.ts";
import { checkTargetUrl, getTargetHost } from "./target-url.ts";

export type GuardedRequest = {
  url: URL;
  method: "POST" | "GET";
  headers: Record<string, string>;
  body?: string | Uint8Array;
  /** Timeout from resolving the name to receiving the response's body. */
  timeoutMs: number;
  /** Maximum number of bytes of the response's body that are read. */
  responseBytesMax: number;
  /** Whether private addresses may be called. */
  allowPrivate: boolean;
  signal?: AbortSignal;
};

export type GuardedResponse = {
  status: number;
  headers: Headers;
  /** The first `responseBytesMax` bytes, or fewer if the response was interrupted. */
  body: Uint8Array;
  durationMs: number;
};

/** Maximum size of a response's status line and header fields. */
const HEAD_BYTES_MAX = 16 * 1024;
/** Maximum number of a name's addresses that are tried. */
const ADDRESSES_MAX = 4;
/** Connection timeout if there is another address to try. */
const NEXT_ADDRESS_MS = 3_000;
const POOL_LIMITS = { idlePerServerMax: 32, idleMax: 512 };

/**
 * Creates a sender for requests to URLs set by users. It resolves the name, checks all its addresses, and connects to a checked
 * address, because a second lookup could have a different result. Connections are reused for the same host and address.
 * Redirects aren't followed.
 *
 * A proxy opens a tunnel to the checked address. If private addresses are allowed, nothing has to be checked, and the proxy
 * resolves the name.
 */
export function createGuardedSender(lookup?: Lookup, findProxy: FindProxy = noProxy) {
  const resolve = createTargetResolver(lookup);
  const pool = createConnectionPool(POOL_LIMITS);
  const abandonedConnections = createAbandonedConnections();

  /** @param addresses null if the proxy resolves the name. */
  async function sendToFirstReachable(addresses: string[] | null, request: PreparedRequest, options: SendOptions) {
    const candidates = addresses?.slice(0, ADDRESSES_MAX) ?? [null];
    for (const [index, address] of candidates.entries()) {
      const isLast = index === candidates.length - 1;
      // Contains the address, so that a connection is reused only for a checked address.
      const origin = `${request.origin} ${address}`;
      const target = {
        ...request,
        ...(address !== null && { address }),
        origin,
        onAbandon: (ended: Promise<unknown>) => abandonedConnections.add(origin, ended),
        headBytesMax: HEAD_BYTES_MAX,
        connectTimeoutMs: isLast ? options.timeoutMs : Math.min(NEXT_ADDRESS_MS, options.timeoutMs / 2),
      };
      try {
        if (abandonedConnections.isFull(origin)) await abandonedConnections.waitForCapacity(origin, options.signal);
        return await sendRequest(target, options.body, { signal: options.signal, pool });
      } catch (error) {
        const isProxyRejection = error instanceof ProxyError && error.status === PROXY_AUTHENTICATION_REQUIRED;
        if (isLast || isProxyRejection || !(error instanceof ConnectError)) throw error;
      }
    }
    throw new OutgoingError("The name has no address.");
  }

  /**
   * Sends a request and reads the start of the response. The request may arrive twice, because it is sent again if the server
   * closes a reused connection immediately.
   * @throws RejectedAddressError if the target must not be called, OutgoingError if there is no response, or the signal's reason.
   */
  return async function sendGuarded(request: GuardedRequest): Promise<GuardedResponse> {
    const { url, method, timeoutMs, responseBytesMax, allowPrivate } = request;
    const startedMs = performance.now();
    const problem = checkTargetUrl(url.href, allowPrivate);
    if (problem !== null) throw new RejectedAddressError(problem);
    const timeLimit = createTimeLimit(timeoutMs, request.signal);
    const { signal } = timeLimit;
    try {
      const configuredProxy = findProxy(url);
      // Without a tunnel, the proxy would resolve the name again.
      const proxy = configuredProxy && { ...configuredProxy, isTunnel: true };
      const isResolvedByProxy = proxy !== null && allowPrivate;
      const addresses = isResolvedByProxy ? null : await abortable(resolve(getTargetHost(url), allowPrivate), signal);
      const preparedRequest = prepareRequest({ url, method, headers: new Headers(request.headers), proxy });
      const response = await sendToFirstReachable(addresses, preparedRequest, {
        body: request.body ?? "",
        timeoutMs,
        signal,
      });
      const body = await readUpTo(response.body, responseBytesMax);
      return { status: response.status, headers: response.headers, body, durationMs: performance.now() - startedMs };
    } catch (error) {
      if (request.signal?.aborted) throw request.signal.reason;
      throw mapToOutgoingError(error, url.host);
    } finally {
      timeLimit.clear();
    }
  };
}

type SendOptions = { body: string | Uint8Array; timeoutMs: number; signal: AbortSignal };

/** Creates a signal that aborts after the timeout, or when the caller's signal aborts. */
function createTimeLimit(timeoutMs: number, callerSignal: AbortSignal | undefined) {
  const controller = new AbortController();
  const message = `No response within ${timeoutMs / 1_000} seconds.`;
  const timer = setTimeout(() => controller.abort(new OutgoingError(message)), timeoutMs);
  const abort = () => controller.abort(callerSignal?.reason);
  if (callerSignal?.aborted) abort();
  callerSignal?.addEventListener("abort", abort, { once: true });
  return {
    signal: controller.signal,
    clear() {
      clearTimeout(timer);
      callerSignal?.removeEventListener("abort", abort);
    },
  };
}
