import type { RunUsage } from "./ledger.ts";
import type { FinishReason, ProviderErrorCode, ToolCall } from "./provider.ts";

/** What a run has cost, and which models (`provider/name`) wrote text of it, in order. */
export type Account = { models: string[]; usage: RunUsage | null; costUsd: number | null };

/**
 * What a run is made of: `start` or, for a resumed run, `reset` before the first text (the `next` turn after tool calls
 * needs neither); then texts, with a `reset` at each seam; at last exactly one of `finish`, `error` and `aborted`. A run
 * without any text may end without `start`, unless it finishes. A run never throws.
 */
export type ChainPart =
  /** The first text is about to come from this model. At most once. */
  | { type: "start"; model: string; attempt: number }
  /** At most TEXT_PART_LENGTH_MAX UTF-16 units, well-formed, without NUL. */
  | { type: "text"; text: string }
  /**
   * Another run of a model goes on; `text` is all of the answer that is kept, and new text follows it. It is shorter than
   * what was shown only where a tool call had begun, so that the turn is made anew.
   */
  | { type: "reset"; model: string; attempt: number; text: string }
  /** `model` wrote the end of the answer, or asks for `toolCalls` before it goes on. */
  | ({ type: "finish"; model: string; reason: FinishReason; toolCalls: readonly ToolCall[] } & Account)
  /** Every model failed. The text so far stays valid; `detail` is safe for clients. */
  | ({ type: "error"; code: ProviderErrorCode; detail: string } & Account)
  /** The caller's signal ended it. */
  | ({ type: "aborted" } & Account);

/** Callbacks for metrics; none may throw. `model` is one of the configured ones. */
export type ChainObserver = {
  /** One request to one model ended. `code` is null unless it failed. */
  onLeg?(
    model: string,
    outcome: "complete" | "failed" | "aborted",
    seconds: number,
    code: ProviderErrorCode | null,
  ): void;
  /** `to` takes over from `from`. */
  onFailover?(from: string, to: string, reason: ProviderErrorCode): void;
  /** From the request to the first text. */
  onFirstToken?(model: string, seconds: number): void;
  /** Only what providers reported, no estimates. */
  onTokens?(model: string, kind: "input" | "output", count: number): void;
  /** Where the price of the model is known. */
  onCost?(model: string, usd: number): void;
  onModelState?(model: string, state: "available" | "cooling_down"): void;
};
