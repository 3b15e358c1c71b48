import { BlockList, isIP } from "node:net";
import { addNetwork, isNetwork } from "../network.ts";

/** Returns whether an entry of `NO_PROXY` matches a host and port. */
type Matcher = (host: string, port: number) => boolean;

/** Matches a name (optionally with a leading `.` or `*.`) or an IPv6 address in brackets, with or without a port. */
const entryPattern =
  /^(?:\[(?<ipv6>[0-9a-f:.]+)\]|(?:\*?\.)?(?<name>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?)(?::(?<port>\d{1,5}))?$/i;

/** Matches strings that look like an IPv4 address. `entryPattern` also accepts them as names. */
const ipv4LikePattern = /^[\d.]+$/;

/** Parses one entry. Returns null if it is invalid. */
function parseEntry(entry: string): Matcher | null {
  if (entry === "*") return () => true;
  if (isNetwork(entry)) {
    const list = new BlockList();
    addNetwork(list, entry);
    return (host) => isIP(host) !== 0 && list.check(host, isIP(host) === 6 ? "ipv6" : "ipv4");
  }
  const { ipv6, name, port } = entryPattern.exec(entry)?.groups ?? {};
  const expectedHost = ipv6 ?? name?.toLowerCase();
  if (expectedHost === undefined || Number(port) > 65_535) return null;
  const matchesPort = (targetPort: number) => port === undefined || targetPort === Number(port);
  if (ipv6 !== undefined || isIP(expectedHost) !== 0) {
    if (isIP(expectedHost) === 0) return null;
    const list = new BlockList();
    addNetwork(list, expectedHost);
    return (host, targetPort) =>
      matchesPort(targetPort) && isIP(host) !== 0 && list.check(host, isIP(host) === 6 ? "ipv6" : "ipv4");
  }
  if (ipv4LikePattern.test(expectedHost)) return null;
  return (host, targetPort) => matchesPort(targetPort) && (host === expectedHost || host.endsWith(`.${expectedHost}`));
}

/** Whether an entry of `NO_PROXY` is valid. */
export const isNoProxyEntry = (entry: string): boolean => parseEntry(entry) !== null;

/**
 * Parses the entries of `NO_PROXY`: `*`, names (including their subdomains), IP addresses and networks (`10.0.0.0/8`). Names may
 * begin with `.` or `*.`, and names and addresses may have a port. Addresses and networks only match IP addresses in URLs.
 * @returns a function that returns whether a URL is requested without a proxy.
 */
export function createNoProxyMatcher(entries: readonly string[]): (url: URL) => boolean {
  const matchers = entries.flatMap((entry) => parseEntry(entry) ?? []);
  return (url) => {
    const host = url.hostname.replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "");
    const port = Number(url.port) || (url.protocol === "https:" ? 443 : 80);
    return isOwnMachine(host) || matchers.some((matches) => matches(host, port));
  };
}

/** Whether a host is this machine. It needs no proxy, because a proxy on another machine couldn't reach it. */
const isOwnMachine = (host: string): boolean =>
  host === "localhost" ||
  host.endsWith(".localhost") ||
  host === "::1" ||
  (isIP(host) === 4 && host.startsWith("127."));
