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
  /** The timeout for everything: resolving the name, connecting, sending, and receiving the response with its body. */
  timeoutMs: number;
  /** The maximum number of bytes of the response's body to read. If there are more, the connection is closed. */
  responseBytesMax: number;
  /** Whether private addresses may be called as well. */
  allowsPrivate: boolean;
  signal?: AbortSignal;
};

export type GuardedResponse = {
  status: number;
  headers: Headers;
  /** The first `responseBytesMax` bytes, or fewer if the response timed out or the connection was closed. */
  body: Uint8Array;
  durationMs: number;
};

/** The maximum size of a response's status line and header fields. */
const HEAD_BYTES_MAX = 16 * 1024;
/** The maximum number of addresses of a name to try before the target counts as unreachable. */
const ADDRESSES_MAX = 4;
/** The connection timeout if there is another address to try, in milliseconds. */
const NEXT_ADDRESS_MS = 3_000;
/** Limits on idle connections. Users choose the servers, so there may be many. */
const POOL_LIMITS = { idlePerServerMax: 32, idleMax: 512 };

/**
 * Creates a sender for requests to URLs set by users. It resolves the name, checks all its addresses, and connects to a checked
 * address, so there is no second lookup that could have a different result. Connections are reused for the same host at the
 * same address. Redirects aren't followed, certificates are verified, and there are no cookies.
 *
 * With a proxy, a tunnel to the checked address is used, and TLS still verifies the name. If private addresses are allowed, no
 * check is needed, and the proxy resolves the name.
 */
export function createGuardedSender(lookup?: Lookup, findProxy: FindProxy = noProxy) {
  const resolve = createTargetResolver(lookup);
  const pool = createConnectionPool(POOL_LIMITS);
  const abandoned = createAbandonedConnections();

  /** @param addresses null: the proxy resolves them. */
  async function sendToFirst(addresses: string[] | null, request: PreparedRequest, options: Sending) {
    const tried = addresses?.slice(0, ADDRESSES_MAX) ?? [null];
    for (const [at, address] of tried.entries()) {
      const isLast = at === tried.length - 1;
      // Includes the address, so that a connection is reused only for the address that has just been checked.
      const origin = `${request.origin} ${address}`;
      const target = {
        ...request,
        ...(address !== null && { address }),
        origin,
        onAbandon: (ended: Promise<unknown>) => abandoned.add(origin, ended),
        headBytesMax: HEAD_BYTES_MAX,
        connectTimeoutMs: isLast ? options.timeoutMs : Math.min(NEXT_ADDRESS_MS, options.timeoutMs / 2),
      };
      try {
        if (abandoned.isFull(origin)) await abandoned.wait(origin, options.signal);
        return await sendRequest(target, options.body, { signal: options.signal, pool });
      } catch (error) {
        const isSameAnywhere = error instanceof ProxyError && error.status === PROXY_AUTHENTICATION_REQUIRED;
        if (isLast || isSameAnywhere || !(error instanceof ConnectError)) throw error;
      }
    }
    throw new OutgoingError("The name has no address.");
  }

  /**
   * Sends a request and reads the beginning of the response. The request may arrive twice, because it is resent if the server
   * closes a reused connection immediately.
   * @throws RefusedAddressError if the target must not be called; OutgoingError if there is no response; the signal's reason if
   *   it is aborted.
   */
  return async function sendGuarded(request: GuardedRequest): Promise<GuardedResponse> {
    const { url, method, timeoutMs, responseBytesMax, allowsPrivate } = request;
    const startedMs = performance.now();
    const problem = checkTargetUrl(url.href, allowsPrivate);
    if (problem !== null) throw new RefusedAddressError(problem);
    const limit = createTimeLimit(timeoutMs, request.signal);
    const { signal } = limit;
    try {
      const found = findProxy(url);
      // Always uses a tunnel, because otherwise the proxy would resolve the name again.
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

/** Creates a signal that is aborted after the timeout, or together with the options signal. */
function createTimeLimit(timeoutMs: number, options: AbortSignal | undefined) {
  const controller = new AbortController();
  const message = `No response within ${timeoutMs / 1_000} seconds.`;
  const timer = setTimeout(() => controller.abort(new OutgoingError(message)), timeoutMs);
  const abort = () => controller.abort(options?.reason);
  if (options?.aborted) abort();
  options?.addEventListener("abort", abort, { once: true });
  return {
    signal: controller.signal,
    clear() {
      clearTimeout(timer);
      options?.removeEventListener("abort", abort);
    },
  };
}
