import type { ModelFinishReason, ProviderError, ProviderErrorCode, Thinking, ToolCall, Usage } from "./provider.ts";

/**
 * The parts that a run pushes. `start` (or `reset` in a resumed run) comes before the first text or reasoning; the `next`
 * step after tool calls needs neither. Texts and reasoning follow, with a `reset` wherever another attempt takes over.
 */
export type AnswerPart =
  /** This model is about to send the first text or reasoning. At most once. */
  | { type: "start"; model: string; attempt: number }
  /** At most TEXT_PART_LENGTH_MAX UTF-16 units, well-formed, without NUL. */
  | { type: "text"; text: string }
  /** The model's reasoning, with the same limits. Includes blank lines between separate blocks of reasoning. */
  | { type: "reasoning"; text: string }
  /**
   * Another attempt takes over. `text` is all of the answer that is kept; new text is appended to it. It is shorter than
   * what was shown only if a tool call had begun, because that step starts over. `reasoning` is the reasoning that led to
   * the kept text; absent: none.
   */
  | { type: "reset"; model: string; attempt: number; text: string; reasoning?: string };

/** `estimated`: at least one attempt failed before it reported its tokens, so they were estimated from the texts. */
export type RunUsage = Usage & { estimated: boolean };

/** The cost of a run, and the models (`provider/name`) that wrote its text, in order. */
export type RunCosts = { models: string[]; usage: RunUsage | null; costUsd: number | null };

/** The failure of the last model tried. All fields are safe for clients. */
export type RunFailure = Omit<ProviderError, "retryable" | "cause" | "code"> & {
  /** `invalid_output`: the answer doesn't have the requested format. */
  code: ProviderErrorCode | "invalid_output";
  /** Null: no model was tried. */
  model: string | null;
};

/** How a run ended. A finished run has pushed `start` or `reset`, even without text. */
export type RunEnd =
  /** `model` wrote the end of the answer, or requests `toolCalls` before it continues. */
  | ({
      type: "finish";
      model: string;
      reason: ModelFinishReason;
      toolCalls: readonly ToolCall[];
      /** The parsed answer, if a format was requested; absent if the text was cut off before it was complete. */
      output?: { value: unknown };
      /** Thinking that `model` needs back with its calls. */
      thinking?: Thinking | undefined;
    } & RunCosts)
  /** Every model failed. The text so far remains valid. */
  | ({ type: "error" } & RunFailure & RunCosts)
  /** The caller's signal aborted the run while `model` was writing; null: no model was. */
  | ({ type: "aborted"; model: string | null } & RunCosts);

/** Returns the answer's text after a part, for readers that only need the text. */
export function applyPart(text: string, part: AnswerPart): string {
  if (part.type === "text") return text + part.text;
  return part.type === "reset" ? part.text : text;
}

/** Returns the answer's reasoning after a part. */
export function applyReasoning(reasoning: string, part: AnswerPart): string {
  if (part.type === "reasoning") return reasoning + part.text;
  return part.type === "reset" ? (part.reasoning ?? "") : reasoning;
}
