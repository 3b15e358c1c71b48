import { Elysia } from "elysia";
import type { Config } from "../config.ts";

/** For responses that are data. A page sets its own policy, which takes precedence. */
const API_CONTENT_SECURITY_POLICY = "default-src 'none'; frame-ancestors 'none'";
/** How long a browser insists on HTTPS after its first visit. */
const HSTS_MAX_AGE_S = 365 * 24 * 60 * 60;

/** Recommended by OWASP's secure headers project, as far as applicable. */
const headers = {
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "x-frame-options": "DENY",
  "content-security-policy": API_CONTENT_SECURITY_POLICY,
  "cross-origin-opener-policy": "same-origin",
  // Keeps other sites from embedding a response; CORS decides separately who may call.
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
  // Cacheable responses override this with an ETag or a max-age.
  "cache-control": "no-store",
} as const;

type Settings = Partial<Pick<Config, "PUBLIC_URL" | "TLS_CERT_FILE">>;

/** Headers of every response. With TLS, here or at the proxy (`PUBLIC_URL`), they include HSTS (RFC 6797). */
export function createSecurityHeaders(settings: Settings) {
  const hasTls = settings.TLS_CERT_FILE !== undefined || (settings.PUBLIC_URL?.startsWith("https:") ?? false);
  const all = { ...headers, ...(hasTls && { "strict-transport-security": `max-age=${HSTS_MAX_AGE_S}` }) };
  return new Elysia({ name: "security-headers" }).onRequest(({ set }) => {
    Object.assign(set.headers, all);
  });
}

/** The policy of a page that loads only resources of this server. `extra` adds directives. */
export function createPagePolicy(extra: Record<string, string> = {}): string {
  const directives = {
    "default-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
    "object-src": "'none'",
    ...extra,
  };
  return Object.entries(directives)
    .map(([name, value]) => `${name} ${value}`)
    .join("; ");
}
