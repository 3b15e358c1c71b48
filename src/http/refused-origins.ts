import type { Log } from "../lib/log.ts";
import { maskAddress } from "../lib/mask-address.ts";
import type { IsAllowedOrigin } from "./origin.ts";

/** Origins that are warned of in the life of a process: anybody can make up more. */
export const REFUSED_ORIGINS_TOLD_MAX = 100;
const ORIGIN_LENGTH_MAX = 200;

/** The same policy, which warns once of each origin that it refuses: the operator sees what a browser does not say. */
export function warnOfRefused(isAllowed: IsAllowedOrigin, log: Log): IsAllowedOrigin {
  const told = new Set<string>();

  function tell(origin: string): void {
    if (told.size >= REFUSED_ORIGINS_TOLD_MAX || told.has(origin)) return;
    told.add(origin);
    const remedy =
      origin === "null"
        ? "files and sandboxed pages have this origin, and can't be allowed; serve the page from an address"
        : "if it is yours, add it to CORS_ORIGINS";
    log.warn({ origin }, `an origin was refused: ${remedy}`);
    if (told.size === REFUSED_ORIGINS_TOLD_MAX)
      log.warn({ count: told.size }, "further refused origins are not logged; CORS_ORIGINS names those that may call");
  }

  return (origin, request) => {
    const isGood = isAllowed(origin, request);
    if (!isGood) tell(maskAddress(origin).slice(0, ORIGIN_LENGTH_MAX));
    return isGood;
  };
}
