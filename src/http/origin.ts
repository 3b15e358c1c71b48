import type { Config } from "../config.ts";

/** Whether a browser's `Origin` may call. */
export type IsAllowedOrigin = (origin: string, request: Request) => boolean;

type Settings = Pick<Config, "APP_ENV" | "CORS_ORIGINS" | "PUBLIC_URL" | "TLS_CERT_FILE">;

/** A page that is served by a developer's own machine. */
const localOrigin = /^https?:\/\/(?:localhost|[\w-]+\.localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/;

/**
 * The own origin always may: that of `PUBLIC_URL`, and the one with the host that was asked. Others must be named
 * exactly; in development, when none is named, those on this machine may. `Origin: null` (sandboxed pages, files) never may.
 */
export function createOriginPolicy(settings: Settings): IsAllowedOrigin {
  const publicUrl = settings.PUBLIC_URL === undefined ? null : new URL(settings.PUBLIC_URL);
  const named = new Set(settings.CORS_ORIGINS.map((origin) => new URL(origin).origin));
  if (publicUrl) named.add(publicUrl.origin);
  const isLocalAllowed = settings.APP_ENV === "development" && settings.CORS_ORIGINS.length === 0;

  /** Behind a proxy the scheme is not known; where it is, a page that came without TLS is not our own. */
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
