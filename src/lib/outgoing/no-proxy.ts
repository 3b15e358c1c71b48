import { BlockList, isIP } from "node:net";
import { addNetwork, isNetwork } from "../network.ts";

/** An entry of `NO_PROXY`, and whether it is meant for a host and a port. */
type Matcher = (host: string, port: number) => boolean;

/** A name, also with `.` or `*.` before it; IPv6 in brackets; with or without a port. */
const entryForm =
  /^(?:\[(?<ipv6>[0-9a-f:.]+)\]|(?:\*?\.)?(?<name>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?)(?::(?<port>\d{1,5}))?$/i;

/** `10.0.0.0`, and not a name that begins so. */
const ipv4Like = /^[\d.]+$/;

/** Reads one entry; null if it has none of the forms that are known. */
function parseEntry(entry: string): Matcher | null {
  if (entry === "*") return () => true;
  if (isNetwork(entry)) {
    const list = new BlockList();
    addNetwork(list, entry);
    return (host) => isIP(host) !== 0 && list.check(host, isIP(host) === 6 ? "ipv6" : "ipv4");
  }
  const { ipv6, name, port } = entryForm.exec(entry)?.groups ?? {};
  const wanted = ipv6 ?? name?.toLowerCase();
  if (wanted === undefined || Number(port) > 65_535) return null;
  const isAt = (given: number) => port === undefined || given === Number(port);
  if (ipv6 !== undefined || isIP(wanted) !== 0) {
    if (isIP(wanted) === 0) return null;
    const list = new BlockList();
    addNetwork(list, wanted);
    return (host, given) => isAt(given) && isIP(host) !== 0 && list.check(host, isIP(host) === 6 ? "ipv6" : "ipv4");
  }
  if (ipv4Like.test(wanted)) return null;
  return (host, given) => isAt(given) && (host === wanted || host.endsWith(`.${wanted}`));
}

/** Whether an entry of `NO_PROXY` can be understood. */
export const isNoProxyEntry = (entry: string): boolean => parseEntry(entry) !== null;

/**
 * Reads the entries of `NO_PROXY`: `*`; a name, which stands for its subdomains too, with or without `.` or `*.` before it; an
 * IP address; a network (`10.0.0.0/8`). A name or an address may have a port. Addresses and networks are compared with the
 * host of a URL, and never with what a name resolves to.
 * @returns whether a host is reached without a proxy.
 */
export function createNoProxy(entries: readonly string[]): (url: URL) => boolean {
  const matchers = entries.flatMap((entry) => parseEntry(entry) ?? []);
  return (url) => {
    const host = url.hostname.replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "");
    const port = Number(url.port) || (url.protocol === "https:" ? 443 : 80);
    return isOwnMachine(host) || matchers.some((isMeant) => isMeant(host, port));
  };
}

/** Another machine cannot reach what listens on this one only. */
const isOwnMachine = (host: string): boolean =>
  host === "localhost" ||
  host.endsWith(".localhost") ||
  host === "::1" ||
  (isIP(host) === 4 && host.startsWith("127."));
