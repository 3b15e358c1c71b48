import type { RunUsage } from "./answer-part.ts";
import type { ModelFinishReason, ProviderErrorCode } from "./provider.ts";
import type { RunContext } from "./run-context.ts";

export type AttemptEnd = {
  outcome: "complete" | "failed" | "aborted";
  /** Null unless the attempt failed. */
  code: ProviderErrorCode | null;
  finishReason: ModelFinishReason | null;
  usage: RunUsage | null;
};

export type AttemptObserver = {
  /** Called for each part of the output, so it must be cheap. */
  onChunk(): void;
  onEnd(end: AttemptEnd): void;
};

/** Callbacks for metrics. They must not throw. */
export type ChainObserver = {
  /** Called when an attempt starts. */
  onAttempt?(model: string, logContext: RunContext | undefined): AttemptObserver;
  /** Called when the model `to` takes over from `from`. */
  onFailover?(from: string, to: string, reason: ProviderErrorCode): void;
  /** @param seconds the time from the request to the first text. */
  onFirstToken?(model: string, seconds: number): void;
  /**
   * Called once per attempt and kind, with the tokens that are charged, including estimates. `reasoning` tokens are part of
   * `output`, and are reported only if there are any.
   */
  onTokens?(model: string, kind: "input" | "output" | "reasoning", count: number): void;
  /** Called only if the model's price is known. */
  onCost?(model: string, usd: number): void;
  onModelState?(model: string, state: "available" | "cooling_down"): void;
};
