/** Whether a browser's `Origin` may call. */
export type IsAllowedOrigin = (origin: string, request: Request) => boolean;

/**
 * The own origin always may: that of `PUBLIC_URL`, and the one with the host that was asked. Others must be named
 * exactly. `Origin: null` (sandboxed pages, files) never may.
 */
export function createOriginPolicy(settings: {
  CORS_ORIGINS: readonly string[];
  PUBLIC_URL?: string;
}): IsAllowedOrigin {
  const named = new Set(settings.CORS_ORIGINS.map((origin) => new URL(origin).origin));
  if (settings.PUBLIC_URL) named.add(new URL(settings.PUBLIC_URL).origin);
  return (origin, request) => named.has(origin) || isOwnHost(origin, request);
}

function isOwnHost(origin: string, request: Request): boolean {
  if (!URL.canParse(origin)) return false;
  return new URL(origin).host === (request.headers.get("host")?.toLowerCase() ?? null);
}
