import type { ProviderError } from "../provider.ts";
import { createProviderError } from "../provider-error.ts";
import type { watch } from "./watchdog.ts";

type AttemptEnd = Awaited<ReturnType<typeof watch>>;

/**
 * An end without text or tool calls is a failure, so that another attempt is made: an empty answer helps nobody.
 * What a provider's filter keeps back stays kept back. Where the limit was reached before any text, the same model would
 * end the same way again; another one may think less.
 *
 * A broken answer whose next model says nothing at all, not even that it wrote a token, is as broken as before. One that has
 * nothing to add has ended it.
 * @param shown the whole answer, with what earlier steps and attempts have written.
 * @param isUntouched whether the answer broke off before this attempt, which has said nothing.
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
