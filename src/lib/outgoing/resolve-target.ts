import { isIP } from "node:net";
import { dns } from "bun";
import { OutgoingError, RefusedAddressError } from "./errors.ts";
import { isPublicAddress } from "./public-address.ts";
import { isHostRefused, NOT_PUBLIC } from "./target-url.ts";

/** Resolves a name to all its IP addresses, the preferred one first. */
export type Lookup = (name: string) => Promise<string[]>;

/** How long the addresses of a name are cached, in milliseconds. Short, because servers may move. */
export const LOOKUP_MS_MAX = 10_000;
/** The maximum number of cached names. Above it, the oldest one is removed. */
const NAMES_MAX = 1_000;

/** Uses c-ares, which is asynchronous and needs no thread, so that a slow name server doesn't delay other lookups. */
const lookUpWithDns: Lookup = async (name) =>
  (await dns.lookup(name, { backend: "c-ares" })).map(({ address }) => address);

type Answer = { addresses: Promise<string[]>; untilMs: number };

/**
 * Creates a resolver for the hosts of URLs set by users. All addresses of a name are checked. If one isn't public, the name is
 * refused, because a mix of both kinds is probably an attack. The caller must connect to a checked address without resolving
 * the name again.
 */
export function createTargetResolver(lookup: Lookup = lookUpWithDns) {
  const answers = new Map<string, Answer>();

  function find(name: string): Promise<string[]> {
    const known = answers.get(name);
    const nowMs = performance.now();
    if (known && nowMs < known.untilMs) return known.addresses;
    const addresses = lookup(name);
    answers.delete(name);
    answers.set(name, { addresses, untilMs: nowMs + LOOKUP_MS_MAX });
    for (const oldest of answers.keys()) {
      if (answers.size <= NAMES_MAX) break;
      answers.delete(oldest);
    }
    // Failures aren't cached, so the next attempt resolves the name again.
    addresses.catch(() => answers.get(name)?.addresses === addresses && answers.delete(name));
    return addresses;
  }

  /**
   * Resolves a host to addresses that may be connected to.
   * @throws RefusedAddressError if the host isn't public; OutgoingError if it is unknown. Without `allowsPrivate`, both have the
   *   same message, so that nobody can find out which names the internal network knows.
   */
  return async (host: string, allowsPrivate: boolean): Promise<string[]> => {
    if (!allowsPrivate && isHostRefused(host)) throw new RefusedAddressError(`${host} ${NOT_PUBLIC}`);
    if (isIP(host) !== 0) return [host];
    const addresses = await find(host).catch(() => []);
    const unusable = addresses.filter(
      (address) => isIP(address) === 0 || (!allowsPrivate && !isPublicAddress(address)),
    );
    if (addresses.length > 0 && unusable.length === 0) return addresses;
    if (allowsPrivate) throw new OutgoingError(`The name ${host} could not be resolved.`);
    const message = `${host} does not resolve to a public address.`;
    throw addresses.length > 0 ? new RefusedAddressError(message) : new OutgoingError(message);
  };
}
