import type { Problem } from "../lib/problem.ts";

const CHALLENGE = 'Bearer realm="parley"';

/** `WWW-Authenticate` for a credential that may not do this, although it is a good one (RFC 6750, section 3.1). */
export function challengeForScope(scope: string): string {
  return `${CHALLENGE}, error="insufficient_scope", scope="${scope}"`;
}

/** `WWW-Authenticate` of a 401: that a token is needed, or that the one that was sent is no good (RFC 6750, section 3). */
export function challengeFor(problem: Problem, request: Request): string {
  const isTokenRefused = problem.code === "unauthorized" && hasToken(request.headers);
  return isTokenRefused ? `${CHALLENGE}, error="invalid_token"` : CHALLENGE;
}

/** Another scheme than `Bearer` is no token: the caller has not tried yet. */
function hasToken(headers: Headers): boolean {
  return /^bearer /i.test(headers.get("authorization") ?? "") || headers.has("x-api-key");
}
