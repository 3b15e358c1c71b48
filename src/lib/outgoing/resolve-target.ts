import { isIP } from "node:net";
import { dns } from "bun";
import { OutgoingError, RejectedAddressError } from "./errors.ts";
import { isPublicAddress } from "./public-address.ts";
import { isPrivateHost, NOT_PUBLIC } from "./target-url.ts";

/** Resolves a name to all its IP addresses. The preferred address is first. */
export type Lookup = (name: string) => Promise<string[]>;

/** How long the addresses of a name are cached. */
export const LOOKUP_CACHE_MS_MAX = 10_000;
/** Maximum number of cached host names. */
const NAMES_MAX = 1_000;

/** Uses c-ares, which needs no threads, so that a slow name server doesn't delay other lookups. */
const lookUpWithDns: Lookup = async (name) =>
  (await dns.lookup(name, { backend: "c-ares" })).map(({ address }) => address);

type CacheEntry = { addresses: Promise<string[]>; expiresAtMs: number };

/**
 * Creates a resolver for the hosts in users' URLs. If any address of a name isn't public, the name is rejected. Callers must
 * connect to a returned address without resolving the name again.
 */
export function createTargetResolver(lookup: Lookup = lookUpWithDns) {
  const cache = new Map<string, CacheEntry>();

  function findAddresses(name: string): Promise<string[]> {
    const cached = cache.get(name);
    const nowMs = performance.now();
    if (cached && nowMs < cached.expiresAtMs) return cached.addresses;
    const addresses = lookup(name);
    cache.delete(name);
    cache.set(name, { addresses, expiresAtMs: nowMs + LOOKUP_CACHE_MS_MAX });
    for (const oldest of cache.keys()) {
      if (cache.size <= NAMES_MAX) break;
      cache.delete(oldest);
    }
    // Failures aren't cached.
    addresses.catch(() => cache.get(name)?.addresses === addresses && cache.delete(name));
    return addresses;
  }

  /**
   * Resolves a host to addresses that may be connected to.
   * @throws RejectedAddressError if the host isn't public, or OutgoingError if it is unknown. Without `allowPrivate`, both have the
   *   same message, so that they don't reveal which names exist in the internal network.
   */
  return async (host: string, allowPrivate: boolean): Promise<string[]> => {
    if (!allowPrivate && isPrivateHost(host)) throw new RejectedAddressError(`${host} ${NOT_PUBLIC}`);
    if (isIP(host) !== 0) return [host];
    const addresses = await findAddresses(host).catch(() => []);
    const unusable = addresses.filter((address) => isIP(address) === 0 || (!allowPrivate && !isPublicAddress(address)));
    if (addresses.length > 0 && unusable.length === 0) return addresses;
    if (allowPrivate) throw new OutgoingError(`The name ${host} could not be resolved.`);
    const message = `${host} does not resolve to a public address.`;
    throw addresses.length > 0 ? new RejectedAddressError(message) : new OutgoingError(message);
  };
}
