import type { Log } from "../lib/log.ts";
import { maskAddress } from "../lib/mask-address.ts";
import type { IsAllowedOrigin } from "./origin.ts";

/** Refused origins that one process logs: anyone can invent more. */
export const REFUSED_ORIGINS_LOGGED_MAX = 100;
const ORIGIN_LENGTH_MAX = 200;

/** The same policy, but each refused origin is logged once, because browsers don't warn the operator. */
export function logRefusedOrigins(isAllowed: IsAllowedOrigin, log: Log): IsAllowedOrigin {
  const logged = new Set<string>();

  function warn(origin: string): void {
    if (logged.size >= REFUSED_ORIGINS_LOGGED_MAX || logged.has(origin)) return;
    logged.add(origin);
    const remedy =
      origin === "null"
        ? "files and sandboxed pages have this origin, and can't be allowed; serve the page over HTTP"
        : "if it is yours, add it to CORS_ORIGINS";
    log.warn({ origin }, `an origin was refused: ${remedy}`);
    if (logged.size === REFUSED_ORIGINS_LOGGED_MAX)
      log.warn({ count: logged.size }, "further refused origins are not logged; add allowed ones to CORS_ORIGINS");
  }

  return (origin, request) => {
    const isAccepted = isAllowed(origin, request);
    if (!isAccepted) warn(maskAddress(origin).slice(0, ORIGIN_LENGTH_MAX));
    return isAccepted;
  };
}
