import type { ProviderError } from "../provider.ts";
import { createProviderError } from "../provider-error.ts";
import type { watch } from "./watchdog.ts";

type AttemptEnd = Awaited<ReturnType<typeof watch>>;

/**
 * Replaces the end of a blank answer with a failure, so that another attempt is made. An answer blocked by a content filter
 * stays as it is. If the length limit was reached before any text, only other models are tried, since they may think less.
 * When an answer is continued, an attempt that sends nothing has failed. But if it sends a token count, the model had nothing to
 * add, so the answer is complete.
 * @param answerText the whole answer, including earlier steps and attempts.
 * @param hasAddedNothing whether this attempt was meant to continue an incomplete answer but sent nothing.
 */
export function refuseBlank(end: AttemptEnd, answerText: string, hasAddedNothing: boolean): AttemptEnd {
  if (end.type !== "finish" || end.toolCalls?.length || end.reason === "content_filter") return end;
  if (/\S/.test(answerText) && !hasAddedNothing) return end;
  return { type: "error", error: createBlankError(end.reason === "length") };
}

function createBlankError(hasReachedLimit: boolean): ProviderError {
  const cause = hasReachedLimit ? "an answer without text: its limit was reached before" : "an answer without text";
  return createProviderError("provider_unavailable", cause, { retryable: !hasReachedLimit });
}
