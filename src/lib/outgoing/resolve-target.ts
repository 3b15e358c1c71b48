import { isIP } from "node:net";
import { dns } from "bun";
import { OutgoingError, RefusedAddressError } from "./errors.ts";
import { isPublicAddress } from "./public-address.ts";
import { isHostRefused, NOT_PUBLIC } from "./target-url.ts";

/** All addresses of a name, the preferred one first. */
export type Lookup = (name: string) => Promise<string[]>;

/** How long the addresses of a name are cached, in milliseconds, so that a server that moves is found again. */
export const LOOKUP_MS_MAX = 10_000;
/** Maximum number of cached names; beyond that, the oldest is removed. */
const NAMES_MAX = 1_000;

/** Uses c-ares, which is asynchronous and holds no thread: a slow name server delays no other lookup. */
const lookUpWithDns: Lookup = async (name) =>
  (await dns.lookup(name, { backend: "c-ares" })).map(({ address }) => address);

type Answer = { addresses: Promise<string[]>; untilMs: number };

/**
 * Resolves a name to addresses that may be connected to. All addresses are checked, and one that is not public refuses the
 * whole name: a name with both kinds is an attempt to get through. The caller connects to the checked address without resolving
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
    // Failures are not cached: the next attempt resolves the name again.
    addresses.catch(() => answers.get(name)?.addresses === addresses && answers.delete(name));
    return addresses;
  }

  /**
   * @throws RefusedAddressError if the host is not public. OutgoingError if it is unknown; without `allowsPrivate`, both have the
   *   same message, so that nobody can learn which names the internal network knows.
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
