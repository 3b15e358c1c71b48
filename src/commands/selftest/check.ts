import type { CheckContext } from "./check-context.ts";

/** The measurements of a check, for the report. Names of durations end in `_ms`. */
export type Measurements = Record<string, number | string>;

/** The outcome of a check. The claim holds if there are no problems. */
type Outcome = {
  /** The measurements as one human-readable line. */
  summary: string;
  measured: Measurements;
  /** Messages that say what was expected and what was found. */
  problems: string[];
};

/** A claim and how to test it. */
export type Check = {
  name: string;
  claim: string;
  timeoutMs: number;
  run(context: CheckContext): Promise<Outcome>;
};

export type CheckResult = Outcome & {
  name: string;
  claim: string;
  status: "passed" | "failed" | "not_run";
  durationMs: number;
};

type Listeners = { onStart(check: Check, index: number): void; onEnd(result: CheckResult): void };

/**
 * Runs the checks one after another, because they build on each other. If a check throws or times out, the remaining checks are
 * not run, because the servers may be in any state.
 * @throws the abort reason of `signal`.
 */
export async function runChecks(
  checks: readonly Check[],
  context: CheckContext,
  signal: AbortSignal,
  { onStart, onEnd }: Listeners,
): Promise<CheckResult[]> {
  const results: CheckResult[] = [];
  let hasUnfinishedCheck = false;
  for (const [index, check] of checks.entries()) {
    signal.throwIfAborted();
    const { name, claim } = check;
    if (hasUnfinishedCheck) {
      const emptyOutcome = { summary: "not run, because an earlier check did not finish", measured: {}, problems: [] };
      results.push({ name, claim, status: "not_run", durationMs: 0, ...emptyOutcome });
    } else {
      onStart(check, index);
      const startedAtMs = performance.now();
      const { outcome, isComplete } = await runCheck(check, context, signal);
      hasUnfinishedCheck = !isComplete;
      const status = outcome.problems.length === 0 ? "passed" : "failed";
      results.push({ name, claim, status, durationMs: Math.round(performance.now() - startedAtMs), ...outcome });
    }
    const result = results.at(-1);
    if (result) onEnd(result);
  }
  return results;
}

async function runCheck(check: Check, context: CheckContext, signal: AbortSignal) {
  const { promise: interruption, reject } = Promise.withResolvers<never>();
  const stop = () => reject(signal.reason);
  signal.addEventListener("abort", stop);
  const timeoutError = new Error(`expected the check to finish within ${check.timeoutMs / 1_000} s, but it did not`);
  const timer = setTimeout(() => reject(timeoutError), check.timeoutMs);
  const pendingOutcome = check.run(context);
  // After a timeout, nothing else handles a rejection of this promise.
  pendingOutcome.catch(() => {});
  try {
    return { outcome: await Promise.race([pendingOutcome, interruption]), isComplete: true };
  } catch (error) {
    signal.throwIfAborted();
    const problem = error instanceof Error ? error.message : String(error);
    return { outcome: { summary: "did not finish", measured: {}, problems: [problem] }, isComplete: false };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  }
}
