import { abortable } from "../abortable.ts";
import { sendRequest } from "../http-client/client.ts";
import { createConnectionPool } from "../http-client/connection-pool.ts";
import { ConnectError, ProxyError } from "../http-client/errors.ts";
import { type PreparedRequest, prepareRequest } from "../http-client/prepared-request.ts";
import { PROXY_AUTHENTICATION_REQUIRED } from "../http-client/proxy.ts";
import { createAbandonedConnections } from "./abandoned-connections.ts";
import { mapToOutgoingError, OutgoingError, RefusedAddressError } from "./errors.ts";
import { type FindProxy, noProxy } from "./find-proxy.ts";
import { readUpTo } from "./read-up-to.ts";
import { createTargetResolver, type Lookup } from "./resolve-target.ts";
import { checkTargetUrl, targetHostOf } from "./target-url.ts";

export type GuardedRequest = {
  url: URL;
  method: "POST" | "GET";
  headers: Record<string, string>;
  body?: string | Uint8Array;
  /** Timeout for everything: resolving the name, connecting, sending, and the response with its body. */
  timeoutMs: number;
  /** Maximum bytes of the response's body that are read; then the connection is closed. */
  responseBytesMax: number;
  /** Whether private addresses may be called, too. */
  allowsPrivate: boolean;
  signal?: AbortSignal;
};

export type GuardedResponse = {
  status: number;
  headers: Headers;
  /** Its first bytes: up to `responseBytesMax`, or what had arrived at the timeout or the end of the connection. */
  body: Uint8Array;
  durationMs: number;
};

/** Maximum size of a response's status line and header fields. */
const HEAD_BYTES_MAX = 16 * 1024;
/** Addresses of a name to try before the target counts as unreachable. */
const ADDRESSES_MAX = 4;
/** Connection timeout while there is another address to try, in milliseconds. */
const NEXT_ADDRESS_MS = 3_000;
/** Users set the servers, so there may be many: idle connections are bounded in total and, tightly, per server. */
const POOL_LIMITS = { idlePerServerMax: 32, idleMax: 512 };

/**
 * Sends requests to URLs set by users. The name is resolved here, all its addresses are checked, and the connection goes to a
 * checked address: there is no second lookup with another result. Connections are reused for the same host at the same
 * address. Redirects are not followed, certificates are verified, there are no cookies.
 *
 * A proxy opens a tunnel to the checked address, and TLS still verifies the name. If private addresses are allowed, nothing
 * needs checking: the proxy resolves the name.
 */
export function createGuardedSender(lookup?: Lookup, findProxy: FindProxy = noProxy) {
  const resolve = createTargetResolver(lookup);
  const pool = createConnectionPool(POOL_LIMITS);
  const abandoned = createAbandonedConnections();

  /** @param addresses null: the proxy resolves them. */
  async function sendToFirst(addresses: string[] | null, request: PreparedRequest, given: Sending) {
    const tried = addresses?.slice(0, ADDRESSES_MAX) ?? [null];
    for (const [at, address] of tried.entries()) {
      const isLast = at === tried.length - 1;
      // Includes the address: a connection is reused only for the address that was checked now.
      const origin = `${request.origin} ${address}`;
      const target = {
        ...request,
        ...(address !== null && { address }),
        origin,
        onAbandon: (ended: Promise<unknown>) => abandoned.add(origin, ended),
        headBytesMax: HEAD_BYTES_MAX,
        connectTimeoutMs: isLast ? given.timeoutMs : Math.min(NEXT_ADDRESS_MS, given.timeoutMs / 2),
      };
      try {
        if (abandoned.isFull(origin)) await abandoned.wait(origin, given.signal);
        return await sendRequest(target, given.body, { signal: given.signal, pool });
      } catch (error) {
        const isSameAnywhere = error instanceof ProxyError && error.status === PROXY_AUTHENTICATION_REQUIRED;
        if (isLast || isSameAnywhere || !(error instanceof ConnectError)) throw error;
      }
    }
    throw new OutgoingError("The name has no address.");
  }

  /**
   * Sends one request and reads the beginning of the response. A request may arrive twice: if the server closes a reused
   * connection immediately, it is sent again.
   * @throws RefusedAddressError if the target must not be called. OutgoingError without a response. The reason of `signal` if
   *   it aborts.
   */
  return async function sendGuarded(request: GuardedRequest): Promise<GuardedResponse> {
    const { url, method, timeoutMs, responseBytesMax, allowsPrivate } = request;
    const startedMs = performance.now();
    const fault = checkTargetUrl(url.href, allowsPrivate);
    if (fault !== null) throw new RefusedAddressError(fault);
    const limit = createTimeLimit(timeoutMs, request.signal);
    const { signal } = limit;
    try {
      const found = findProxy(url);
      // Always with a tunnel: without one, the proxy would resolve the name again.
      const proxy = found && { ...found, isTunnel: true };
      const isResolvedThere = proxy !== null && allowsPrivate;
      const addresses = isResolvedThere ? null : await abortable(resolve(targetHostOf(url), allowsPrivate), signal);
      const prepared = prepareRequest({ url, method, headers: new Headers(request.headers), proxy });
      const response = await sendToFirst(addresses, prepared, { body: request.body ?? "", timeoutMs, signal });
      const body = await readUpTo(response.body, responseBytesMax);
      return { status: response.status, headers: response.headers, body, durationMs: performance.now() - startedMs };
    } catch (error) {
      if (request.signal?.aborted) throw request.signal.reason;
      throw mapToOutgoingError(error, url.host);
    } finally {
      limit.clear();
    }
  };
}

type Sending = { body: string | Uint8Array; timeoutMs: number; signal: AbortSignal };

/** Aborts after the timeout, or with the given signal. */
function createTimeLimit(timeoutMs: number, given: AbortSignal | undefined) {
  const controller = new AbortController();
  const message = `No response within ${timeoutMs / 1_000} seconds.`;
  const timer = setTimeout(() => controller.abort(new OutgoingError(message)), timeoutMs);
  const abort = () => controller.abort(given?.reason);
  if (given?.aborted) abort();
  given?.addEventListener("abort", abort, { once: true });
  return {
    signal: controller.signal,
    clear() {
      clearTimeout(timer);
      given?.removeEventListener("abort", abort);
    },
  };
}
