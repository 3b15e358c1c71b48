import type { Config } from "../config.ts";

/** Whether this `Origin` of a browser may call. */
export type IsAllowedOrigin = (origin: string, request: Request) => boolean;

type Settings = Pick<Config, "APP_ENV" | "CORS_ORIGINS" | "PUBLIC_URL" | "TLS_CERT_FILE">;

/** The origin of a page on the developer's own machine. */
const localOrigin = /^https?:\/\/(?:localhost|[\w-]+\.localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/;

/**
 * Our own origin is always allowed: that of `PUBLIC_URL`, and the one that matches the `Host` header. Others must be listed
 * exactly; in development with an empty list, origins on this machine are allowed. `Origin: null` (sandboxed pages, files)
 * is never allowed.
 */
export function createOriginPolicy(settings: Settings): IsAllowedOrigin {
  const publicUrl = settings.PUBLIC_URL === undefined ? null : new URL(settings.PUBLIC_URL);
  const named = new Set(settings.CORS_ORIGINS.map((origin) => new URL(origin).origin));
  if (publicUrl) named.add(publicUrl.origin);
  const isLocalAllowed = settings.APP_ENV === "development" && settings.CORS_ORIGINS.length === 0;

  /** Behind a proxy the scheme is unknown. If it is known to be HTTPS, a page loaded without TLS is not our own. */
  function isOwnHost(origin: string, request: Request): boolean {
    if (!URL.canParse(origin)) return false;
    const { host, protocol } = new URL(origin);
    if (host === "" || host !== (request.headers.get("host")?.toLowerCase() ?? null)) return false;
    if (settings.TLS_CERT_FILE !== undefined) return protocol === "https:";
    return publicUrl === null || host !== publicUrl.host;
  }

  return (origin, request) =>
    named.has(origin) || (isLocalAllowed && localOrigin.test(origin)) || isOwnHost(origin, request);
}
