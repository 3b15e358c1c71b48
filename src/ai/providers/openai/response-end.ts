import { isErrorValue } from "../../error-fields.ts";
import type { ModelFinishReason, ProviderError, ReportedUsage } from "../../provider.ts";
import { createProviderError, mapErrorFields } from "../../provider-error.ts";
import { type Fields, readFields, readReportedUsage, readText } from "../read-fields.ts";

const incompleteReasons: ReadonlyMap<string, ModelFinishReason> = new Map([
  ["max_output_tokens", "length"],
  ["max_tokens", "length"],
  ["length", "length"],
  ["content_filter", "content_filter"],
]);

/**
 * Returns why a response ended, or its failure. An unknown end is a failure.
 * @param impliedStatus the status implied by the last event's name; null for a document, which contains it.
 */
export function findEnd(response: Fields, impliedStatus: string | null): ModelFinishReason | { error: ProviderError } {
  if (isErrorValue(response)) return { error: mapErrorFields(response) };
  const status =
    impliedStatus === "completed" ? checkCompleted(response.status) : (impliedStatus ?? readText(response.status));
  if (status === "completed") return "stop";
  if (status === "incomplete") {
    const reason = readText(readFields(response.incomplete_details).reason);
    const known = reason === null ? "length" : incompleteReasons.get(reason);
    return known ?? { error: createProviderError("provider_unavailable", `the response is incomplete by ${reason}`) };
  }
  return { error: createProviderError("provider_unavailable", `the response ended as ${status ?? "nothing"}`) };
}

/** The last event may hold an older state of the response, or no status. */
function checkCompleted(value: unknown): string {
  const status = readText(value);
  return status === null || status === "in_progress" || status === "queued" ? "completed" : status;
}

/** The tokens of a response; null if it reports none. */
export function mapUsage(value: unknown): ReportedUsage | null {
  if (typeof value !== "object" || value === null) return null;
  const usage = readFields(value);
  const { cached_tokens, cache_write_tokens } = readFields(usage.input_tokens_details);
  return readReportedUsage({
    input: usage.input_tokens,
    output: usage.output_tokens,
    cachedInput: cached_tokens,
    cacheWrite: cache_write_tokens,
    reasoning: readFields(usage.output_tokens_details).reasoning_tokens,
  });
}
