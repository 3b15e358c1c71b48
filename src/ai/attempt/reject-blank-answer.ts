import type { ProviderError } from "../provider.ts";
import { createProviderError } from "../provider-error.ts";
import type { watchStream } from "./watchdog.ts";

type AttemptEnd = Awaited<ReturnType<typeof watchStream>>;

/**
 * Replaces the end of a blank answer with a failure, so that another attempt is made. An answer blocked by a content filter
 * stays as it is. If the model reached the length limit before it wrote any text, only other models are tried, because they
 * may think less. An attempt to continue an answer fails if it sends nothing. But if it sends a token count, the model had
 * nothing to add, so the answer is complete.
 * @param answerText the whole answer, including earlier steps and attempts.
 * @param hasAddedNothing whether this attempt was meant to continue an incomplete answer but sent nothing.
 */
export function rejectBlankAnswer(end: AttemptEnd, answerText: string, hasAddedNothing: boolean): AttemptEnd {
  if (end.type !== "finish" || end.toolCalls?.length || end.reason === "content_filter") return end;
  if (/\S/.test(answerText) && !hasAddedNothing) return end;
  return { type: "error", error: createBlankAnswerError(end.reason === "length") };
}

function createBlankAnswerError(hasReachedLimit: boolean): ProviderError {
  const cause = hasReachedLimit
    ? "an answer without text: it reached its length limit first"
    : "an answer without text";
  return createProviderError("provider_unavailable", cause, { retryable: !hasReachedLimit });
}
