import { isIP } from "node:net";
import { dns } from "bun";
import { OutgoingError, RefusedAddressError } from "./errors.ts";
import { isPublicAddress } from "./public-address.ts";
import { isHostRefused, NOT_PUBLIC } from "./target-url.ts";

/** All addresses of a name, the preferred one first. */
export type Lookup = (name: string) => Promise<string[]>;

/** How long the addresses of a name are used, in milliseconds. A receiver that moves is found after that. */
export const LOOKUP_MS_MAX = 10_000;
/** Names whose addresses are kept; beyond that the oldest is forgotten. */
const NAMES_MAX = 1_000;

/** By c-ares, which waits beside the event loop and holds no thread: a name server that is slow delays nobody else. */
const lookUp: Lookup = async (name) => (await dns.lookup(name, { backend: "c-ares" })).map(({ address }) => address);

type Answer = { addresses: Promise<string[]>; untilMs: number };

/**
 * Finds the addresses that may be connected to. All addresses of a name are checked, and one that is not public has the
 * whole name refused: a name with addresses of both kinds is made to get through. An address is connected to as it was
 * checked, without a second look-up.
 */
export function createTargetResolver(lookup: Lookup = lookUp) {
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
    // A failure is not kept: the next attempt asks again.
    addresses.catch(() => answers.get(name)?.addresses === addresses && answers.delete(name));
    return addresses;
  }

  /**
   * @throws RefusedAddressError when the host is not public. OutgoingError when it is unknown; without `allowsPrivate` in the
   *   same words, so that nobody learns which names this network knows.
   */
  return async (host: string, allowsPrivate: boolean): Promise<string[]> => {
    if (!allowsPrivate && isHostRefused(host)) throw new RefusedAddressError(`${host} ${NOT_PUBLIC}`);
    if (isIP(host) !== 0) return [host];
    const addresses = await find(host).catch(() => []);
    const unusable = addresses.filter(
      (address) => isIP(address) === 0 || (!allowsPrivate && !isPublicAddress(address)),
    );
    if (addresses.length > 0 && unusable.length === 0) return addresses;
    if (allowsPrivate) throw new OutgoingError(`The address of ${host} could not be found.`);
    const message = `${host} does not resolve to a public address.`;
    throw addresses.length > 0 ? new RefusedAddressError(message) : new OutgoingError(message);
  };
}
