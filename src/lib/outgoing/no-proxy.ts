import { BlockList, isIP } from "node:net";
import { addNetwork, isNetwork } from "../network.ts";

/** Whether an entry of `NO_PROXY` matches a host and port. */
type Matcher = (host: string, port: number) => boolean;

/** A name, also with a leading `.` or `*.`; IPv6 in brackets; with or without a port. */
const entryForm =
  /^(?:\[(?<ipv6>[0-9a-f:.]+)\]|(?:\*?\.)?(?<name>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?)(?::(?<port>\d{1,5}))?$/i;

/** Distinguishes `10.0.0.0` from a name that begins with digits. */
const ipv4Like = /^[\d.]+$/;

/** Parses one entry; null if it is invalid. */
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
  const isAt = (targetPort: number) => port === undefined || targetPort === Number(port);
  if (ipv6 !== undefined || isIP(wanted) !== 0) {
    if (isIP(wanted) === 0) return null;
    const list = new BlockList();
    addNetwork(list, wanted);
    return (host, given) => isAt(given) && isIP(host) !== 0 && list.check(host, isIP(host) === 6 ? "ipv6" : "ipv4");
  }
  if (ipv4Like.test(wanted)) return null;
  return (host, given) => isAt(given) && (host === wanted || host.endsWith(`.${wanted}`));
}

/** Whether an entry of `NO_PROXY` is valid. */
export const isNoProxyEntry = (entry: string): boolean => parseEntry(entry) !== null;

/**
 * Parses the entries of `NO_PROXY`: `*`; a name, which includes its subdomains, with or without a leading `.` or `*.`; an IP
 * address; a network (`10.0.0.0/8`). Names and addresses may have a port. Addresses and networks are compared with the host
 * of a URL, never with what a name resolves to.
 * @returns a function that decides whether a URL is reached without a proxy.
 */
export function createNoProxy(entries: readonly string[]): (url: URL) => boolean {
  const matchers = entries.flatMap((entry) => parseEntry(entry) ?? []);
  return (url) => {
    const host = url.hostname.replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "");
    const port = Number(url.port) || (url.protocol === "https:" ? 443 : 80);
    return isOwnMachine(host) || matchers.some((isMeant) => isMeant(host, port));
  };
}

/** A proxy on another machine can't reach services that listen only on this one. */
const isOwnMachine = (host: string): boolean =>
  host === "localhost" ||
  host.endsWith(".localhost") ||
  host === "::1" ||
  (isIP(host) === 4 && host.startsWith("127."));
