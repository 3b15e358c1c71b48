import type { RunUsage } from "./answer-part.ts";
import type { ModelFinishReason, ProviderErrorCode } from "./provider.ts";
import type { RunContext } from "./run-context.ts";

/** How an attempt ended. */
export type AttemptEnd = {
  outcome: "complete" | "failed" | "aborted";
  /** Null unless it failed. */
  code: ProviderErrorCode | null;
  finishReason: ModelFinishReason | null;
  usage: RunUsage | null;
};

/** Follows one attempt. */
export type AttemptObserver = {
  /** A part of the output arrived: text, reasoning or a tool call. Called often, so it must be cheap. */
  onChunk(): void;
  onEnd(end: AttemptEnd): void;
};

/** Callbacks for metrics; they must not throw. `model` is a configured model. */
export type ChainObserver = {
  /** An attempt starts: a request to a model. */
  onAttempt?(model: string, about: RunContext | undefined): AttemptObserver;
  /** `to` takes over from `from`. */
  onFailover?(from: string, to: string, reason: ProviderErrorCode): void;
  /** Seconds from the request to the first text. */
  onFirstToken?(model: string, seconds: number): void;
  /**
   * The tokens charged for an attempt, estimates included. Called once, in the tick in which its bill is made. `reasoning`
   * is part of `output`; reported only if there is some.
   */
  onTokens?(model: string, kind: "input" | "output" | "reasoning", count: number): void;
  /** Called only if the model's price is known. */
  onCost?(model: string, usd: number): void;
  onModelState?(model: string, state: "available" | "cooling_down"): void;
};
