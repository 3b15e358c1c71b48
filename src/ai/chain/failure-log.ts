import { addSkippedLineCount, createLogLineLimit } from "../../lib/line-limit.ts";
import type { Log } from "../../lib/log.ts";
import type { ProviderError } from "../provider.ts";
import type { ExplainFailure, RunContext } from "../run-context.ts";

type Failure = { model: string; error: ProviderError };

/** Minimum interval between error lines about a key that a provider rejects. Otherwise, every request would log an error line. */
const REJECTED_KEY_INTERVAL_MS = 60_000;

type Dependencies = { log: Log; explain?: ExplainFailure | undefined; now?: () => number };

/** Logs models' failures, with a remedy if there is one. The lines are rate-limited. */
export function createFailureLog({ log, explain = () => null, now = () => performance.now() }: Dependencies) {
  const rejectedKeyLoggedAtMs = new Map<string, number>();
  const admitLine = createLogLineLimit(now);

  /** Returns whether an error line about the provider's rejected key may be logged, and if so, starts the next interval. */
  function claimErrorLine(provider: string): boolean {
    const lastMs = rejectedKeyLoggedAtMs.get(provider);
    if (lastMs !== undefined && now() - lastMs < REJECTED_KEY_INTERVAL_MS) return false;
    rejectedKeyLoggedAtMs.set(provider, now());
    return true;
  }

  return {
    /** Logs a failure. @param shownLength the length of the text that readers have received, in UTF-16 code units. */
    record({ model, error }: Failure, logContext: RunContext | undefined, shownLength: number): void {
      const { code, cause, status, retryAfterMs } = error;
      const line = { ...logContext, model, code, status, cause, retry_after_ms: retryAfterMs, shown: shownLength };
      const remedy = explain(model, error);
      if (code === "provider_unauthorized") {
        const provider = model.slice(0, model.indexOf("/"));
        const level = claimErrorLine(provider) ? "error" : "debug";
        log[level](line, remedy ?? "model failed: its provider rejects this server's credentials");
        return;
      }
      const skippedLines = admitLine(model);
      const message = remedy === null ? "model failed" : `model failed: ${remedy}`;
      if (skippedLines === null) log.debug(line, message);
      else log.warn(addSkippedLineCount(line, skippedLines), message);
    },
  };
}

export type FailureLog = ReturnType<typeof createFailureLog>;
