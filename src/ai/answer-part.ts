import type { ModelFinishReason, ProviderError, ProviderErrorCode, Thinking, ToolCall, Usage } from "./provider.ts";

/**
 * A part of an answer, as a run pushes it. `start` (or `reset` in a resumed run) precedes the first text or reasoning, unless
 * the run continues after tool calls. A `reset` follows whenever another attempt takes over.
 */
export type AnswerPart =
  /** Announces the model that writes first. Sent at most once. */
  | { type: "start"; model: string; attempt: number }
  /** At most TEXT_PART_LENGTH_MAX UTF-16 code units of valid text without NUL. */
  | { type: "text"; text: string }
  /** The model's reasoning, under the same limits. Blank lines separate its blocks. */
  | { type: "reasoning"; text: string }
  /**
   * Another attempt takes over. `text` replaces all text sent before, and new text is appended to it. `text` is shorter than
   * the text it replaces only if the step starts over, for example because the failed attempt had begun a tool call.
   * `reasoning`, if present, is the reasoning that led to `text`.
   */
  | { type: "reset"; model: string; attempt: number; text: string; reasoning?: string };

/** `estimated` is true if an attempt failed before reporting its tokens, so that they were estimated from its text. */
export type RunUsage = Usage & { estimated: boolean };

/** The cost of a run, and the models (`provider/name`) that wrote its text, in order. */
export type RunCosts = { models: string[]; usage: RunUsage | null; costUsd: number | null };

/** The failure of the last model tried. Every field is safe to send to clients. */
export type RunFailure = Omit<ProviderError, "retryable" | "cause" | "code"> & {
  /** `invalid_output`: the answer doesn't have the requested format. */
  code: ProviderErrorCode | "invalid_output";
  /** Null if no model was tried. */
  model: string | null;
};

/** How a run ended. A finished run has pushed `start` or `reset`, even if it has no text. */
export type RunEnd =
  /** `model` completed the answer, or needs the results of `toolCalls` to continue. */
  | ({
      type: "finish";
      model: string;
      reason: ModelFinishReason;
      toolCalls: readonly ToolCall[];
      /** The parsed answer, if a format was requested and the text is complete. */
      output?: { value: unknown };
      /** Thinking to send back to `model` together with its calls. */
      thinking?: Thinking | undefined;
    } & RunCosts)
  /** Every model failed. The text already sent remains valid. */
  | ({ type: "error" } & RunFailure & RunCosts)
  /** The caller's signal aborted the run while `model` was writing. `model` is null if no model was writing. */
  | ({ type: "aborted"; model: string | null } & RunCosts);

/** Returns the answer's text after this part. */
export function applyPart(text: string, part: AnswerPart): string {
  if (part.type === "text") return text + part.text;
  return part.type === "reset" ? part.text : text;
}

/** Returns the answer's reasoning after this part. */
export function applyReasoning(reasoning: string, part: AnswerPart): string {
  if (part.type === "reasoning") return reasoning + part.text;
  return part.type === "reset" ? (part.reasoning ?? "") : reasoning;
}
