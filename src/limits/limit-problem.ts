import { Problem } from "../lib/problem.ts";
import type { LimitResult } from "./limiter.ts";

/** Returns the rate-limit headers for a result. */
function createRateLimitHeaders({ policy, state }: LimitResult): Record<string, string> {
  return { "ratelimit-policy": policy, ratelimit: state };
}

/** An exhausted limit: its quota, its time window (if any), and the time until it allows a request again. */
type ExhaustedLimit = { policy: string; quota: number; windowS?: number; waitMs: number };

/** Creates the error for exhausted limits that aren't rate limits. */
export function createLimitProblem(detail: string, exhausted: readonly ExhaustedLimit[]): Problem {
  const formatPolicy = ({ policy, quota, windowS }: ExhaustedLimit) =>
    `"${policy}";q=${quota}${windowS === undefined ? "" : `;w=${windowS}`}`;
  const formatState = ({ policy, waitMs }: ExhaustedLimit) => `"${policy}";r=0;t=${Math.ceil(waitMs / 1_000)}`;
  return new Problem("rate_limited", detail, {
    retryAfterMs: Math.max(...exhausted.map(({ waitMs }) => waitMs)),
    headers: {
      "ratelimit-policy": exhausted.map(formatPolicy).join(", "),
      ratelimit: exhausted.map(formatState).join(", "),
    },
    violatedPolicies: exhausted.map(({ policy }) => policy),
  });
}

/** Creates the error for an exceeded rate limit. */
export function createRateLimitProblem(result: LimitResult, label: string): Problem {
  const waitS = Math.ceil(result.retryAfterMs / 1_000);
  return new Problem("rate_limited", `Too many ${label}; try again in ${waitS} s.`, {
    retryAfterMs: result.retryAfterMs,
    headers: createRateLimitHeaders(result),
    violatedPolicies: result.violatedWindows,
  });
}
