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
  /** For the whole: looking up the name, connecting, sending, and the response with its body. */
  timeoutMs: number;
  /** Most bytes of the response's body that are read; then the connection is closed. */
  responseBytesMax: number;
  /** Whether addresses that are not public may be called too. */
  allowsPrivate: boolean;
  signal?: AbortSignal;
};

export type GuardedResponse = {
  status: number;
  headers: Headers;
  /** Its first bytes: up to `responseBytesMax`, or what had come when the time was over or the connection broke. */
  body: Uint8Array;
  durationMs: number;
};

/** Most bytes of a response's status line and header fields. */
const HEAD_BYTES_MAX = 16 * 1024;
/** Addresses of a name that are tried before the target counts as unreachable. */
const ADDRESSES_MAX = 4;
/** Longest time for the connection to an address while there is another one to try, in milliseconds. */
const NEXT_ADDRESS_MS = 3_000;
/** Users name the servers, so there may be many: connections that wait have a bound for all of them, and a small one each. */
const POOL_LIMITS = { idlePerServerMax: 32, idleMax: 512 };

/**
 * Sends requests to addresses that users set. The name is resolved here, all its addresses are checked, and the connection
 * goes to a checked address itself: there is no second look-up that could say something else. Connections are kept for the
 * next request to the same host at the same address. Redirects are not followed, certificates are verified,
 * cookies don't exist.
 *
 * A proxy is asked for a connection to the checked address, and TLS still checks the name. If private addresses are allowed,
 * there is nothing to check: the proxy gets the name, and resolves it.
 */
export function createGuardedSender(lookup?: Lookup, findProxy: FindProxy = noProxy) {
  const resolve = createTargetResolver(lookup);
  const pool = createConnectionPool(POOL_LIMITS);
  const abandoned = createAbandonedConnections();

  /** @param addresses null: the proxy finds them. */
  async function sendToFirst(addresses: string[] | null, request: PreparedRequest, given: Sending) {
    const tried = addresses?.slice(0, ADDRESSES_MAX) ?? [null];
    for (const [at, address] of tried.entries()) {
      const isLast = at === tried.length - 1;
      // Names the address too: a connection is used again only for the address that was checked now.
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
    throw new OutgoingError("There is no address.");
  }

  /**
   * Sends one request and reads the beginning of the response. A request may arrive twice: a kept connection that the
   * server closes at once has it sent again.
   * @throws RefusedAddressError when the target may not be called. OutgoingError when there is no response. The reason of
   *   `signal` when that aborts.
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
      // Through a tunnel, since a proxy that is asked itself would resolve the name again, or lose it.
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

/** Aborts after the time, or with the given signal. */
function createTimeLimit(timeoutMs: number, given: AbortSignal | undefined) {
  const controller = new AbortController();
  const message = `The request was not answered within ${timeoutMs / 1_000} seconds.`;
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
