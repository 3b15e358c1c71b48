import { addSkipped, createLineLimit } from "../../lib/line-limit.ts";
import type { Log } from "../../lib/log.ts";
import type { ProviderError } from "../provider.ts";
import type { ExplainFailure, RunContext } from "../run-context.ts";

type Failure = { model: string; error: ProviderError };

/** A rejected key is rejected every time; it is logged this often per provider. */
const REFUSED_KEY_MS = 60_000;

type Dependencies = { log: Log; explain?: ExplainFailure | undefined; now?: () => number };

/** Logs failed models: those that need an operator as errors with a remedy. Both levels are rate-limited. */
export function createFailureLog({ log, explain = () => null, now = () => performance.now() }: Dependencies) {
  const refusedAtMs = new Map<string, number>();
  // A provider that is down fails every answer.
  const countLine = createLineLimit(now);

  function isRefusalDue(provider: string): boolean {
    const lastMs = refusedAtMs.get(provider);
    if (lastMs !== undefined && now() - lastMs < REFUSED_KEY_MS) return false;
    refusedAtMs.set(provider, now());
    return true;
  }

  return {
    /** @param shown how much of the answer readers have seen, in UTF-16 units. */
    record({ model, error }: Failure, about: RunContext | undefined, shown: number): void {
      const { code, cause, status, retryAfterMs } = error;
      const line = { ...about, model, code, status, cause, retry_after_ms: retryAfterMs, shown };
      const remedy = explain(model, error);
      if (code === "provider_unauthorized") {
        const provider = model.slice(0, model.indexOf("/"));
        const level = isRefusalDue(provider) ? "error" : "debug";
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
