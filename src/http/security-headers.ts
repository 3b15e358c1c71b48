import { Elysia } from "elysia";
import type { Config } from "../config.ts";

/** Policy of API responses. Pages have their own policies. */
const API_CONTENT_SECURITY_POLICY = "default-src 'none'; frame-ancestors 'none'";
/** How long browsers use only HTTPS after a visit. */
const HSTS_MAX_AGE_S = 365 * 24 * 60 * 60;

/** The applicable headers from OWASP's Secure Headers Project. */
const headers = {
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "x-frame-options": "DENY",
  "content-security-policy": API_CONTENT_SECURITY_POLICY,
  "cross-origin-opener-policy": "same-origin",
  // Prevents other sites from embedding a response. CORS is independent of it.
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
  // Cacheable responses override this.
  "cache-control": "no-store",
} as const;

type Settings = Partial<Pick<Config, "PUBLIC_URL" | "TLS_CERT_FILE">>;

/** Creates the plugin that adds the security headers to all responses, including HSTS (RFC 6797) if clients use TLS. */
export function createSecurityHeadersPlugin(settings: Settings) {
  const hasTls = settings.TLS_CERT_FILE !== undefined || (settings.PUBLIC_URL?.startsWith("https:") ?? false);
  const allHeaders = { ...headers, ...(hasTls && { "strict-transport-security": `max-age=${HSTS_MAX_AGE_S}` }) };
  return new Elysia({ name: "security-headers" }).onRequest(({ set }) => {
    Object.assign(set.headers, allHeaders);
  });
}

/** Creates the policy of a page that loads resources only from this server. `extra` adds or replaces directives. */
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
