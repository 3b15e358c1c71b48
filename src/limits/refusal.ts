import { Problem } from "../lib/problem.ts";
import type { Verdict } from "./limiter.ts";

/** Returns the rate limit headers for a response of a limited route. */
function describeVerdict({ policy, state }: Verdict): Record<string, string> {
  return { "ratelimit-policy": policy, ratelimit: state };
}

/** An exhausted limit: how much it allows, in which time window (if any), and for how long it stays exhausted. */
type UsedUp = { policy: string; quota: number; windowS?: number; waitMs: number };

/** Creates the error for other kinds of limits. Like `createRefusal`, it names the exhausted ones. */
export function createLimitProblem(detail: string, usedUp: readonly UsedUp[]): Problem {
  const describe = ({ policy, quota, windowS }: UsedUp) =>
    `"${policy}";q=${quota}${windowS === undefined ? "" : `;w=${windowS}`}`;
  const state = ({ policy, waitMs }: UsedUp) => `"${policy}";r=0;t=${Math.ceil(waitMs / 1_000)}`;
  return new Problem("rate_limited", detail, {
    retryAfterMs: Math.max(...usedUp.map(({ waitMs }) => waitMs)),
    headers: { "ratelimit-policy": usedUp.map(describe).join(", "), ratelimit: usedUp.map(state).join(", ") },
    violatedPolicies: usedUp.map(({ policy }) => policy),
  });
}

/** Creates the error for a refused use. It says when to retry, and which windows are exhausted. */
export function createRefusal(verdict: Verdict, what: string): Problem {
  const waitS = Math.ceil(verdict.retryAfterMs / 1_000);
  return new Problem("rate_limited", `Too many ${what}; try again in ${waitS} s.`, {
    retryAfterMs: verdict.retryAfterMs,
    headers: describeVerdict(verdict),
    violatedPolicies: verdict.violated,
  });
}
