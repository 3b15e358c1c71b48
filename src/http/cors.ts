import { Elysia } from "elysia";
import type { IsAllowedOrigin } from "./origin.ts";

const ALLOWED_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE";
const ALLOWED_HEADERS =
  "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, X-API-Key, X-On-Behalf-Of, X-Request-Id";
const EXPOSED_HEADERS =
  "ETag, Idempotent-Replayed, Link, Location, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, X-Request-Id";
/** How long browsers may cache a preflight response. Chromium's maximum is two hours. */
const PREFLIGHT_MAX_AGE_S = 7_200;

/**
 * Creates the CORS plugin. Credentials are never sent in cookies, so `Allow-Credentials` isn't needed. Responses to origins that
 * aren't allowed lack the CORS headers, so browsers hide them from the page.
 */
export function createCorsPlugin(isAllowedOrigin: IsAllowedOrigin) {
  return new Elysia({ name: "cors" }).onRequest(({ request, set }) => {
    set.headers.vary = "Origin";
    const origin = request.headers.get("origin");
    if (origin !== null && isAllowedOrigin(origin, request)) {
      set.headers["access-control-allow-origin"] = origin;
      set.headers["access-control-expose-headers"] = EXPOSED_HEADERS;
    }
    if (request.method !== "OPTIONS" || !request.headers.has("access-control-request-method")) return;
    if (set.headers["access-control-allow-origin"] !== undefined) {
      set.headers["access-control-allow-methods"] = ALLOWED_METHODS;
      set.headers["access-control-allow-headers"] = ALLOWED_HEADERS;
      set.headers["access-control-max-age"] = String(PREFLIGHT_MAX_AGE_S);
    }
    return new Response(null, { status: 204 });
  });
}
