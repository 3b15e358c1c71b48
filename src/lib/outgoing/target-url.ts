import { isIP } from "node:net";
import { isPublicAddress } from "./public-address.ts";

/** Longest URL that a user may set. */
export const TARGET_URL_LENGTH_MAX = 2_048;

/** The host of a URL as names and addresses are written elsewhere: no brackets, no dot at the end. */
export const targetHostOf = (url: URL): string => url.hostname.replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "");

/** Names of this machine, whatever a resolver says of them (RFC 6761). */
const isLocalName = (host: string): boolean => host === "localhost" || host.endsWith(".localhost");

/** Whether the host alone shows that the target is not public; a name may still resolve to such an address. */
export const isHostRefused = (host: string): boolean =>
  isLocalName(host) || (isIP(host) !== 0 && !isPublicAddress(host));

export const NOT_PUBLIC = "is not a public address. Only public addresses can be called.";

/**
 * What is wrong with a URL that a user sets as a target, as a sentence for that user, or null. Hosts are judged in the form
 * that `URL` gives them, so that `http://2130706433/` is `127.0.0.1`. A name is not looked up here: that happens each time
 * it is connected to.
 * @param allowsPrivate whether private addresses and names of this machine are good too.
 */
export function checkTargetUrl(url: string, allowsPrivate = false): string | null {
  if (url.length > TARGET_URL_LENGTH_MAX) return `The URL must not be longer than ${TARGET_URL_LENGTH_MAX} characters.`;
  // The parser would drop these, or take them for something else: what was meant is not what would be called.
  if (/[\s\\\p{Cc}\p{Cf}\p{Cs}]/u.test(url))
    return "The URL must not contain spaces, control characters or backslashes.";
  if (!/^https?:\/\//i.test(url)) return "The URL must begin with https:// or http://.";
  if (!URL.canParse(url)) return "The URL is invalid.";
  return findFault(new URL(url), allowsPrivate);
}

function findFault(url: URL, allowsPrivate: boolean): string | null {
  if (url.username !== "" || url.password !== "") return "The URL must not contain a user name or a password.";
  if (url.hash !== "" || url.href.endsWith("#")) return "The URL must not contain a fragment (#).";
  if (url.port === "0") return "Port 0 cannot be connected to.";
  const host = targetHostOf(url);
  if (!isHost(host)) return "The host of the URL is invalid.";
  return !allowsPrivate && isHostRefused(host) ? `${host} ${NOT_PUBLIC}` : null;
}

/** Whether it can be looked up or connected to: an address, or labels of a name (RFC 1123, with the underscore in use). */
const isHost = (host: string): boolean =>
  isIP(host) !== 0 ||
  (host.length <= 253 && /^[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*$/.test(host));
