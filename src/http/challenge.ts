import { type Problem, problemCodes } from "../lib/problem.ts";

const CHALLENGE = 'Bearer realm="parley"';

/**
 * `WWW-Authenticate` of a 401, with `invalid_token` if a token was sent (RFC 6750, section 3), and of a 403 for a missing scope
 * (section 3.1). Undefined for every other problem.
 */
export function findChallenge(problem: Problem, request: Request): string | undefined {
  if (problem.neededScope !== undefined)
    return `${CHALLENGE}, error="insufficient_scope", scope="${problem.neededScope}"`;
  if (problemCodes[problem.code].status !== 401) return undefined;
  const isTokenRefused = problem.code === "unauthorized" && hasToken(request.headers);
  return isTokenRefused ? `${CHALLENGE}, error="invalid_token"` : CHALLENGE;
}

/** Schemes other than `Bearer` don't count as a token. */
function hasToken(headers: Headers): boolean {
  return /^bearer /i.test(headers.get("authorization") ?? "") || headers.has("x-api-key");
}
