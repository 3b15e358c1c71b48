import type { ProviderErrorCode } from "./provider.ts";

/** Callbacks for metrics; none may throw. `model` is one of the configured ones. */
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
  /** From the request to the first text. */
  onFirstToken?(model: string, seconds: number): void;
  /**
   * What an attempt is charged for, once, in the tick in which its bill is made: estimates too. `reasoning` is a part of
   * `output`; told only where there is some.
   */
  onTokens?(model: string, kind: "input" | "output" | "reasoning", count: number): void;
  /** Where the price of the model is known. */
  onCost?(model: string, usd: number): void;
  onModelState?(model: string, state: "available" | "cooling_down"): void;
};
