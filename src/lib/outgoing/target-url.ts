import { isIP } from "node:net";
import { isPublicAddress } from "./public-address.ts";

/** The maximum length of a URL set by a user. */
export const TARGET_URL_LENGTH_MAX = 2_048;

/** Returns the host of a URL without brackets and without a trailing dot. */
export const targetHostOf = (url: URL): string => url.hostname.replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "");

/** Whether a name means this machine, whatever the resolver says (RFC 6761). */
const isLocalName = (host: string): boolean => host === "localhost" || host.endsWith(".localhost");

/** Whether the host itself shows that the target isn't public. Other names may still resolve to such an address. */
export const isHostRefused = (host: string): boolean =>
  isLocalName(host) || (isIP(host) !== 0 && !isPublicAddress(host));

export const NOT_PUBLIC = "is not a public address. Only public addresses can be called.";

/**
 * Explains to a user what is wrong with a target URL; null if nothing is. Hosts are checked in their canonical form, so
 * `http://2130706433/` is `127.0.0.1`. Names aren't resolved here, but each time a request is sent.
 * @param allowsPrivate whether private addresses and names of this machine are allowed as well.
 */
export function checkTargetUrl(url: string, allowsPrivate = false): string | null {
  if (url.length > TARGET_URL_LENGTH_MAX) return `The URL must not be longer than ${TARGET_URL_LENGTH_MAX} characters.`;
  // The URL parser would drop or convert these characters, so a different URL from the given one would be called.
  if (/[\s\\\p{Cc}\p{Cf}\p{Cs}]/u.test(url))
    return "The URL must not contain spaces, control characters or backslashes.";
  if (!/^https?:\/\//i.test(url)) return "The URL must begin with https:// or http://.";
  if (!URL.canParse(url)) return "The URL is invalid.";
  return findFault(new URL(url), allowsPrivate);
}

function findFault(url: URL, allowsPrivate: boolean): string | null {
  if (url.username !== "" || url.password !== "") return "The URL must not contain a user name or a password.";
  if (url.hash !== "" || url.href.endsWith("#")) return "The URL must not contain a fragment (#).";
  if (url.port === "0") return "Port 0 is not allowed.";
  const host = targetHostOf(url);
  if (!isHost(host)) return "The host of the URL is invalid.";
  return !allowsPrivate && isHostRefused(host) ? `${host} ${NOT_PUBLIC}` : null;
}

/** Whether a host is an IP address, or a name according to RFC 1123. Underscores are common, so they are also allowed. */
const isHost = (host: string): boolean =>
  isIP(host) !== 0 ||
  (host.length <= 253 && /^[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*$/.test(host));
