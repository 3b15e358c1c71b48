import { type Problem, problemCodes } from "../lib/problem.ts";

const CHALLENGE = 'Bearer realm="parley"';

/**
 * Returns the `WWW-Authenticate` header of a 401, or of a 403 for a missing scope (RFC 6750, section 3). Returns undefined for
 * other problems.
 */
export function findChallenge(problem: Problem, request: Request): string | undefined {
  if (problem.neededScope !== undefined)
    return `${CHALLENGE}, error="insufficient_scope", scope="${problem.neededScope}"`;
  if (problemCodes[problem.code].status !== 401) return undefined;
  const isTokenRejected = problem.code === "unauthorized" && hasToken(request.headers);
  return isTokenRejected ? `${CHALLENGE}, error="invalid_token"` : CHALLENGE;
}

/** Whether a token was sent. Schemes other than `Bearer` don't count. */
function hasToken(headers: Headers): boolean {
  return /^bearer /i.test(headers.get("authorization") ?? "") || headers.has("x-api-key");
}
