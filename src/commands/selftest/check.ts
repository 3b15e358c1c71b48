import type { Stage } from "./stage.ts";

/** What a check measured, for the report. Names of times end in `_ms`. */
export type Figures = Record<string, number | string>;

/** The result of a check. If there are no problems, the claim holds. */
type Outcome = {
  /** The figures as one human-readable line. */
  summary: string;
  measured: Figures;
  /** Each says what was expected and what was found. */
  problems: string[];
};

/** A claim, and a check that tests it. */
export type Check = {
  name: string;
  /** One sentence. */
  claim: string;
  timeoutMs: number;
  run(stage: Stage): Promise<Outcome>;
};

export type CheckResult = Outcome & {
  name: string;
  claim: string;
  status: "passed" | "failed" | "not_run";
  durationMs: number;
};

type Listeners = { onStart(check: Check, index: number): void; onEnd(result: CheckResult): void };

/**
 * Runs the checks one after another, since they build on each other. If a check doesn't run to its end, the remaining ones are
 * not run, because the servers may be in any state.
 * @throws the signal's reason once it is aborted.
 */
export async function runChecks(
  checks: readonly Check[],
  stage: Stage,
  signal: AbortSignal,
  { onStart, onEnd }: Listeners,
): Promise<CheckResult[]> {
  const results: CheckResult[] = [];
  let isStuck = false;
  for (const [index, check] of checks.entries()) {
    signal.throwIfAborted();
    const { name, claim } = check;
    if (isStuck) {
      const none = { summary: "not run, because an earlier check broke off", measured: {}, problems: [] };
      results.push({ name, claim, status: "not_run", durationMs: 0, ...none });
    } else {
      onStart(check, index);
      const startedAtMs = performance.now();
      const { outcome, isComplete } = await runOne(check, stage, signal);
      isStuck = !isComplete;
      const status = outcome.problems.length === 0 ? "passed" : "failed";
      results.push({ name, claim, status, durationMs: Math.round(performance.now() - startedAtMs), ...outcome });
    }
    const result = results.at(-1);
    if (result) onEnd(result);
  }
  return results;
}

async function runOne(check: Check, stage: Stage, signal: AbortSignal) {
  const { promise: ending, reject } = Promise.withResolvers<never>();
  const stop = () => reject(signal.reason);
  signal.addEventListener("abort", stop);
  const timeout = new Error(`expected the check to end within ${check.timeoutMs / 1_000} s, but it was still running`);
  const timer = setTimeout(() => reject(timeout), check.timeoutMs);
  const running = check.run(stage);
  // After a timeout, nothing else handles a rejection.
  running.catch(() => {});
  try {
    return { outcome: await Promise.race([running, ending]), isComplete: true };
  } catch (error) {
    signal.throwIfAborted();
    const problem = error instanceof Error ? error.message : String(error);
    return { outcome: { summary: "broke off", measured: {}, problems: [problem] }, isComplete: false };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  }
}
