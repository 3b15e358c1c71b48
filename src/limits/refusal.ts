import { Problem } from "../lib/problem.ts";
import type { Verdict } from "./limiter.ts";

/** What every answer of a limited route says of the limit. */
function describeVerdict({ policy, state }: Verdict): Record<string, string> {
  return { "ratelimit-policy": policy, ratelimit: state };
}

/** The error for a use that was not allowed: when to come again, and which windows are used up. */
export function createRefusal(verdict: Verdict, what: string): Problem {
  const waitS = Math.ceil(verdict.retryAfterMs / 1_000);
  return new Problem("rate_limited", `Too many ${what}; try again in ${waitS} s.`, {
    retryAfterMs: verdict.retryAfterMs,
    headers: describeVerdict(verdict),
    violatedPolicies: verdict.violated,
  });
}
