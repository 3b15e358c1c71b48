import { isErrorValue } from "../../error-fields.ts";
import type { ModelFinishReason, ProviderError, ReportedUsage } from "../../provider.ts";
import { createProviderError, mapErrorFields } from "../../provider-error.ts";
import { asFields, asNonEmptyString, type Fields, parseReportedUsage } from "../read-fields.ts";

const incompleteReasons: ReadonlyMap<string, ModelFinishReason> = new Map([
  ["max_output_tokens", "length"],
  ["max_tokens", "length"],
  ["length", "length"],
  ["content_filter", "content_filter"],
]);

/**
 * Returns a response's finish reason or its error. An unknown status is an error.
 * @param impliedStatus the status that the last event's name implies. Null for a document.
 */
export function findResponseEnd(
  response: Fields,
  impliedStatus: string | null,
): ModelFinishReason | { error: ProviderError } {
  if (isErrorValue(response)) return { error: mapErrorFields(response) };
  const status =
    impliedStatus === "completed"
      ? getCompletedStatus(response.status)
      : (impliedStatus ?? asNonEmptyString(response.status));
  if (status === "completed") return "stop";
  if (status === "incomplete") {
    const reason = asNonEmptyString(asFields(response.incomplete_details).reason);
    const finishReason = reason === null ? "length" : incompleteReasons.get(reason);
    return (
      finishReason ?? { error: createProviderError("provider_unavailable", `the response is incomplete: ${reason}`) }
    );
  }
  return {
    error: createProviderError("provider_unavailable", `the response ended with the status ${status ?? "(none)"}`),
  };
}

/** Returns the final status. The `response.completed` event may contain an outdated status, or no status. */
function getCompletedStatus(value: unknown): string {
  const status = asNonEmptyString(value);
  return status === null || status === "in_progress" || status === "queued" ? "completed" : status;
}

/** Returns a response's token counts, or null if there are none. */
export function mapUsage(value: unknown): ReportedUsage | null {
  if (typeof value !== "object" || value === null) return null;
  const usage = asFields(value);
  const { cached_tokens, cache_write_tokens } = asFields(usage.input_tokens_details);
  return parseReportedUsage({
    input: usage.input_tokens,
    output: usage.output_tokens,
    cachedInput: cached_tokens,
    cacheWrite: cache_write_tokens,
    reasoning: asFields(usage.output_tokens_details).reasoning_tokens,
  });
}
