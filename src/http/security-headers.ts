import { Elysia } from "elysia";

/** For answers that are data. A page sets its own policy on its response, which wins. */
const API_CONTENT_SECURITY_POLICY = "default-src 'none'; frame-ancestors 'none'";

/** Headers that every answer has. */
export const securityHeaders = new Elysia({ name: "security-headers" }).onRequest(({ set }) => {
  set.headers["x-content-type-options"] = "nosniff";
  set.headers["referrer-policy"] = "no-referrer";
  set.headers["x-frame-options"] = "DENY";
  set.headers["content-security-policy"] = API_CONTENT_SECURITY_POLICY;
});

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
