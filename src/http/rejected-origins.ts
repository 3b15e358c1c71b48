import type { Log } from "../lib/log.ts";
import { maskAddress } from "../lib/mask-address.ts";
import type { IsAllowedOrigin } from "./origin.ts";

/** Maximum number of rejected origins that a process logs, because clients can send arbitrarily many. */
export const LOGGED_ORIGINS_MAX = 100;
const ORIGIN_LENGTH_MAX = 200;

/** Wraps a policy so that it logs each rejected origin once. Otherwise, only the browser would report rejections. */
export function logRejectedOrigins(isAllowed: IsAllowedOrigin, log: Log): IsAllowedOrigin {
  const loggedOrigins = new Set<string>();

  function warnOnce(origin: string): void {
    if (loggedOrigins.size >= LOGGED_ORIGINS_MAX || loggedOrigins.has(origin)) return;
    loggedOrigins.add(origin);
    const remedy =
      origin === "null"
        ? "files and sandboxed pages have this origin and can't be allowed; serve the page over HTTP"
        : "if it is yours, add it to CORS_ORIGINS";
    log.warn({ origin }, `an origin was rejected: ${remedy}`);
    if (loggedOrigins.size === LOGGED_ORIGINS_MAX)
      log.warn({ count: loggedOrigins.size }, "further rejected origins are not logged; add your own to CORS_ORIGINS");
  }

  return (origin, request) => {
    const isAccepted = isAllowed(origin, request);
    if (!isAccepted) warnOnce(maskAddress(origin).slice(0, ORIGIN_LENGTH_MAX));
    return isAccepted;
  };
}
