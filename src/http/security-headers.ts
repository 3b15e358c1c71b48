import { Elysia } from "elysia";
import type { Config } from "../config.ts";

/** For answers that are data. A page sets its own policy on its response, which wins. */
const API_CONTENT_SECURITY_POLICY = "default-src 'none'; frame-ancestors 'none'";
/** How long a browser insists on TLS after it has seen it once. */
const HSTS_MAX_AGE_S = 365 * 24 * 60 * 60;

/** What OWASP's secure headers project advises, as far as it concerns us. */
const headers = {
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "x-frame-options": "DENY",
  "content-security-policy": API_CONTENT_SECURITY_POLICY,
  "cross-origin-opener-policy": "same-origin",
  // Keeps other sites from embedding an answer; who may call across origins (CORS) is another question.
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
  // What may be kept says so itself, with an ETag or an age.
  "cache-control": "no-store",
} as const;

type Settings = Partial<Pick<Config, "PUBLIC_URL" | "TLS_CERT_FILE">>;

/** Headers that every answer has. With TLS, here or in front of us (`PUBLIC_URL`), HSTS is one of them (RFC 6797). */
export function createSecurityHeaders(settings: Settings) {
  const hasTls = settings.TLS_CERT_FILE !== undefined || (settings.PUBLIC_URL?.startsWith("https:") ?? false);
  const all = { ...headers, ...(hasTls && { "strict-transport-security": `max-age=${HSTS_MAX_AGE_S}` }) };
  return new Elysia({ name: "security-headers" }).onRequest(({ set }) => {
    Object.assign(set.headers, all);
  });
}

/** The policy of a page that loads only what Parley itself serves. `extra` adds directives. */
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
