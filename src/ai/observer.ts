import type { ProviderErrorCode } from "./provider.ts";

/** Callbacks for metrics; they must not throw. `model` is a configured model. */
export type ChainObserver = {
  /** An attempt ended. `code` is null unless it failed. */
  onAttempt?(
    model: string,
    outcome: "complete" | "failed" | "aborted",
    seconds: number,
    code: ProviderErrorCode | null,
  ): void;
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
