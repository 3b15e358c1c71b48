import type { Config } from "../config.ts";

/** Whether requests from this `Origin` are allowed. */
export type IsAllowedOrigin = (origin: string, request: Request) => boolean;

type Settings = Pick<Config, "APP_ENV" | "CORS_ORIGINS" | "PUBLIC_URL" | "TLS_CERT_FILE">;

/** Matches origins on the developer's own machine. */
const localOriginPattern = /^https?:\/\/(?:localhost|[\w-]+\.localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/;

/**
 * Creates the origin policy. The origin of `PUBLIC_URL` and the origin that matches the `Host` header are always allowed. Other
 * origins must be listed in `CORS_ORIGINS`. In development, if `CORS_ORIGINS` is empty, origins on this machine are allowed.
 * `Origin: null`, which files and sandboxed pages send, is never allowed.
 */
export function createOriginPolicy(settings: Settings): IsAllowedOrigin {
  const publicUrl = settings.PUBLIC_URL === undefined ? null : new URL(settings.PUBLIC_URL);
  const allowedOrigins = new Set(settings.CORS_ORIGINS.map((origin) => new URL(origin).origin));
  if (publicUrl) allowedOrigins.add(publicUrl.origin);
  const allowsLocalOrigins = settings.APP_ENV === "development" && settings.CORS_ORIGINS.length === 0;

  /** Whether an origin matches the `Host` header. If this server is known to use HTTPS, an `http` origin doesn't match. */
  function isOwnHost(origin: string, request: Request): boolean {
    if (!URL.canParse(origin)) return false;
    const { host, protocol } = new URL(origin);
    if (host === "" || host !== (request.headers.get("host")?.toLowerCase() ?? null)) return false;
    if (settings.TLS_CERT_FILE !== undefined) return protocol === "https:";
    return publicUrl === null || host !== publicUrl.host;
  }

  return (origin, request) =>
    allowedOrigins.has(origin) || (allowsLocalOrigins && localOriginPattern.test(origin)) || isOwnHost(origin, request);
}
