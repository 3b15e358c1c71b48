import type { ProviderError } from "../provider.ts";
import { createProviderError } from "../provider-error.ts";
import type { watch } from "./watchdog.ts";

type AttemptEnd = Awaited<ReturnType<typeof watch>>;

/**
 * Turns an end without text or tool calls into a failure, so that another attempt is made. An answer blocked by a content
 * filter stays blocked. If the length limit was reached before any text, the same model would do so again, but another one
 * may think less.
 * If a broken answer's next model sends nothing at all, not even a token count, the answer is still broken. If it has
 * nothing to add, the answer is complete.
 * @param shown the whole answer, including earlier steps and attempts.
 * @param isUntouched whether the answer was broken before this attempt, which has sent nothing.
 */
export function refuseBlank(end: AttemptEnd, shown: string, isUntouched: boolean): AttemptEnd {
  if (end.type !== "finish" || end.toolCalls?.length || end.reason === "content_filter") return end;
  if (/\S/.test(shown) && !isUntouched) return end;
  return { type: "error", error: createBlankError(end.reason === "length") };
}

function createBlankError(isLimited: boolean): ProviderError {
  const cause = isLimited ? "an answer without text: its limit was reached before" : "an answer without text";
  return createProviderError("provider_unavailable", cause, { retryable: !isLimited });
}
