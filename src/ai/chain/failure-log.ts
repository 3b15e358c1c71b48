import { addLeftOut, createLineLimit } from "../../lib/line-limit.ts";
import type { Log } from "../../lib/log.ts";
import type { AboutRun, ExplainFailure } from "../about-run.ts";
import type { ProviderError } from "../provider.ts";

type Failure = { model: string; error: ProviderError };

/** A key that is refused is refused each time; so often the log says it, of each provider. */
const REFUSED_KEY_MS = 60_000;

type Dependencies = { log: Log; explain?: ExplainFailure | undefined; now?: () => number };

/** Logs that models fail: what cannot mend itself as an error with its remedy, and neither without bounds. */
export function createFailureLog({ log, explain = () => null, now = () => performance.now() }: Dependencies) {
  const refusedAtMs = new Map<string, number>();
  // A provider that is down fails each answer.
  const countLine = createLineLimit(now);

  function isRefusalDue(provider: string): boolean {
    const lastMs = refusedAtMs.get(provider);
    if (lastMs !== undefined && now() - lastMs < REFUSED_KEY_MS) return false;
    refusedAtMs.set(provider, now());
    return true;
  }

  return {
    /** @param shown how much of the answer its readers have seen, in UTF-16 units. */
    tell({ model, error }: Failure, about: AboutRun | undefined, shown: number): void {
      const { code, cause, status, retryAfterMs } = error;
      const line = { ...about, model, code, status, cause, retry_after_ms: retryAfterMs, shown };
      const remedy = explain(model, error);
      if (code === "provider_unauthorized") {
        const provider = model.slice(0, model.indexOf("/"));
        const level = isRefusalDue(provider) ? "error" : "debug";
        log[level](line, remedy ?? "model failed: its provider refuses this server's credentials");
        return;
      }
      const leftOut = countLine(model);
      const message = remedy === null ? "model failed" : `model failed: ${remedy}`;
      if (leftOut === null) log.debug(line, message);
      else log.warn(addLeftOut(line, leftOut), message);
    },
  };
}

export type FailureLog = ReturnType<typeof createFailureLog>;
