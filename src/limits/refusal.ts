import { Problem } from "../lib/problem.ts";
import type { Verdict } from "./limiter.ts";

/** What every answer of a limited route says of the limit. */
function describeVerdict({ policy, state }: Verdict): Record<string, string> {
  return { "ratelimit-policy": policy, ratelimit: state };
}

/** A limit of which nothing is left: how much it allows, over which time if it has one, and when there is room again. */
type UsedUp = { policy: string; quota: number; windowS?: number; waitMs: number };

/** The error for what a limit of another kind refuses: it names the used-up ones, as `createRefusal` does. */
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

/** The error for a use that was not allowed: when to come again, and which windows are used up. */
export function createRefusal(verdict: Verdict, what: string): Problem {
  const waitS = Math.ceil(verdict.retryAfterMs / 1_000);
  return new Problem("rate_limited", `Too many ${what}; try again in ${waitS} s.`, {
    retryAfterMs: verdict.retryAfterMs,
    headers: describeVerdict(verdict),
    violatedPolicies: verdict.violated,
  });
}
