import { isIP } from "node:net";
import { isPublicAddress } from "./public-address.ts";

/** Maximum length of a URL set by a user. */
export const TARGET_URL_LENGTH_MAX = 2_048;

/** The host of a URL without brackets and without a trailing dot. */
export const targetHostOf = (url: URL): string => url.hostname.replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "");

/** Names of this machine, regardless of the resolver (RFC 6761). */
const isLocalName = (host: string): boolean => host === "localhost" || host.endsWith(".localhost");

/** Whether the host itself shows that the target is not public; other names may still resolve to such an address. */
export const isHostRefused = (host: string): boolean =>
  isLocalName(host) || (isIP(host) !== 0 && !isPublicAddress(host));

export const NOT_PUBLIC = "is not a public address. Only public addresses can be called.";

/**
 * What is wrong with a target URL set by a user, as a sentence for that user; null if nothing. Hosts are checked in their
 * canonical form, so `http://2130706433/` is `127.0.0.1`. Names are not resolved here, but each time a request is sent.
 * @param allowsPrivate whether private addresses and names of this machine are allowed, too.
 */
export function checkTargetUrl(url: string, allowsPrivate = false): string | null {
  if (url.length > TARGET_URL_LENGTH_MAX) return `The URL must not be longer than ${TARGET_URL_LENGTH_MAX} characters.`;
  // The URL parser would drop these or convert them, so the called URL would differ from the written one.
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

/** Whether it can be resolved or connected to: an address, or labels of a name (RFC 1123, plus the common underscore). */
const isHost = (host: string): boolean =>
  isIP(host) !== 0 ||
  (host.length <= 253 && /^[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*$/.test(host));
