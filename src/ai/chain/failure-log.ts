import { addSkipped, createLineLimit } from "../../lib/line-limit.ts";
import type { Log } from "../../lib/log.ts";
import type { ProviderError } from "../provider.ts";
import type { ExplainFailure, RunContext } from "../run-context.ts";

type Failure = { model: string; error: ProviderError };

/** Minimum interval between error lines about a key that a provider rejects, because every request then fails. */
const REJECTED_KEY_INTERVAL_MS = 60_000;

type Dependencies = { log: Log; explain?: ExplainFailure | undefined; now?: () => number };

/** Logs models' failures, with a remedy if there is one. The lines are rate-limited. */
export function createFailureLog({ log, explain = () => null, now = () => performance.now() }: Dependencies) {
  const rejectedKeyLoggedAtMs = new Map<string, number>();
  const countLine = createLineLimit(now);

  function isRejectedKeyDue(provider: string): boolean {
    const lastMs = rejectedKeyLoggedAtMs.get(provider);
    if (lastMs !== undefined && now() - lastMs < REJECTED_KEY_INTERVAL_MS) return false;
    rejectedKeyLoggedAtMs.set(provider, now());
    return true;
  }

  return {
    /** Logs a failure. @param shown the length of the text that readers have received, in UTF-16 code units. */
    record({ model, error }: Failure, about: RunContext | undefined, shown: number): void {
      const { code, cause, status, retryAfterMs } = error;
      const line = { ...about, model, code, status, cause, retry_after_ms: retryAfterMs, shown };
      const remedy = explain(model, error);
      if (code === "provider_unauthorized") {
        const provider = model.slice(0, model.indexOf("/"));
        const level = isRejectedKeyDue(provider) ? "error" : "debug";
        log[level](line, remedy ?? "model failed: its provider refuses this server's credentials");
        return;
      }
      const skipped = countLine(model);
      const message = remedy === null ? "model failed" : `model failed: ${remedy}`;
      if (skipped === null) log.debug(line, message);
      else log.warn(addSkipped(line, skipped), message);
    },
  };
}

export type FailureLog = ReturnType<typeof createFailureLog>;
