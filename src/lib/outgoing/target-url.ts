import { isIP } from "node:net";
import { isPublicAddress } from "./public-address.ts";

/** Maximum length of a URL set by a user. */
export const TARGET_URL_LENGTH_MAX = 2_048;

/** Returns the host of a URL without brackets and without a trailing dot. */
export const getTargetHost = (url: URL): string => url.hostname.replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "");

/** Whether a name always refers to this machine (RFC 6761). */
const isLocalName = (host: string): boolean => host === "localhost" || host.endsWith(".localhost");

/** Whether a host is known not to be public. Any other name may still resolve to an address that isn't public. */
export const isPrivateHost = (host: string): boolean =>
  isLocalName(host) || (isIP(host) !== 0 && !isPublicAddress(host));

export const NOT_PUBLIC = "is not a public address. Only public addresses can be called.";

/**
 * Explains to a user why a target URL is invalid. Returns null if it is valid. Hosts are checked in their canonical form:
 * `http://2130706433/` is `127.0.0.1`. Names are resolved only when a request is sent.
 * @param allowPrivate whether private addresses and names of this machine are allowed.
 */
export function checkTargetUrl(url: string, allowPrivate = false): string | null {
  if (url.length > TARGET_URL_LENGTH_MAX) return `The URL must not be longer than ${TARGET_URL_LENGTH_MAX} characters.`;
  // The URL parser would remove or convert these characters, so a different URL would be called.
  if (/[\s\\\p{Cc}\p{Cf}\p{Cs}]/u.test(url))
    return "The URL must not contain spaces, control characters or backslashes.";
  if (!/^https?:\/\//i.test(url)) return "The URL must begin with https:// or http://.";
  if (!URL.canParse(url)) return "The URL is invalid.";
  return findUrlProblem(new URL(url), allowPrivate);
}

function findUrlProblem(url: URL, allowPrivate: boolean): string | null {
  if (url.username !== "" || url.password !== "") return "The URL must not contain a user name or a password.";
  if (url.hash !== "" || url.href.endsWith("#")) return "The URL must not contain a fragment (#).";
  if (url.port === "0") return "Port 0 is not allowed.";
  const host = getTargetHost(url);
  if (!isHost(host)) return "The host of the URL is invalid.";
  return !allowPrivate && isPrivateHost(host) ? `${host} ${NOT_PUBLIC}` : null;
}

/** Whether a host is an IP address, or a name according to RFC 1123. Underscores are common, so they are also allowed. */
const isHost = (host: string): boolean =>
  isIP(host) !== 0 ||
  (host.length <= 253 && /^[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*$/.test(host));
