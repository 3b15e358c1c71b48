import type { ModelFinishReason, ProviderError, ProviderErrorCode, Thinking, ToolCall, Usage } from "./provider.ts";

/**
 * What a run pushes: `start` or, for a resumed run, `reset` before the first text (the `next` step after tool calls needs
 * neither); then texts, with a `reset` wherever another attempt goes on.
 */
export type AnswerPart =
  /** The first text is about to come from this model. At most once. */
  | { type: "start"; model: string; attempt: number }
  /** At most TEXT_PART_LENGTH_MAX UTF-16 units, well-formed, without NUL. */
  | { type: "text"; text: string }
  /**
   * Another attempt goes on; `text` is all of the answer that is kept, and new text follows it. It is shorter than what
   * was shown only where a tool call had begun, so that the step is made anew.
   */
  | { type: "reset"; model: string; attempt: number; text: string };

/** `estimated`: at least one attempt broke off before its tokens were reported, so that they were guessed from the texts. */
export type RunUsage = Usage & { estimated: boolean };

/** What a run has cost, and which models (`provider/name`) wrote text of it, in order. */
export type Account = { models: string[]; usage: RunUsage | null; costUsd: number | null };

/** The failure of the model that was asked last; all of it is safe for clients. */
export type RunFailure = Omit<ProviderError, "retryable" | "cause" | "code"> & {
  /** `invalid_output`: the answer does not have the format that was asked for. */
  code: ProviderErrorCode | "invalid_output";
  /** Null: no model was asked. */
  model: string | null;
};

/** How a run ended. One that finishes has pushed `start` or `reset`, also when it has no text. */
export type RunEnd =
  /** `model` wrote the end of the answer, or asks for `toolCalls` before it goes on. */
  | ({
      type: "finish";
      model: string;
      reason: ModelFinishReason;
      toolCalls: readonly ToolCall[];
      /** The parsed answer where a format was asked for; absent if the text was cut off before it had that. */
      output?: { value: unknown };
      /** What `model` wants back with its calls. */
      thinking?: Thinking | undefined;
    } & Account)
  /** Every model failed. The text so far stays valid. */
  | ({ type: "error" } & RunFailure & Account)
  /** The caller's signal ended it, while `model` was asked; null: none was. */
  | ({ type: "aborted"; model: string | null } & Account);

/** The answer's text after a part, for whoever only wants the text. */
export function applyPart(text: string, part: AnswerPart): string {
  if (part.type === "text") return text + part.text;
  return part.type === "reset" ? part.text : text;
}
