import { fitUsd, toStorableJson, toStorableText } from "../../db/storable.ts";
import type { StoredError } from "../../lib/error-codes.ts";
import { fitTokens } from "../messages/service.ts";
import type { LiveAnswer } from "./live-answer.ts";
import type { FinalState } from "./queries.ts";

/**
 * After this many interruptions, a generation isn't restarted, and its answer ends with the text so far. Crashes are rare, so this many
 * during one answer suggest a persistent problem, and each attempt may cost money.
 */
export const INTERRUPTIONS_MAX = 5;

/**
 * Fits a final state to its columns: sums of tokens and costs may be too large, and parsed JSON may contain characters that Postgres
 * can't store.
 */
export const fitFinalState = (final: FinalState): FinalState => ({
  ...final,
  usage: final.usage && fitTokens(final.usage),
  costUsd: fitUsd(final.costUsd),
  output: final.output == null ? null : toStorableJson(final.output),
});

/**
 * Lists the substitutes for a final state that the database permanently rejects, best first: a failure with the other fields kept, a
 * failure with only the text, and a failure without text. One of them must be stored, so that no message stays `streaming`.
 */
export function listSubstitutes(final: FinalState): FinalState[] {
  const error: StoredError = { code: "internal", detail: "The response could not be stored. Regenerate it." };
  const failed: FinalState = {
    ...final,
    content: toStorableText(final.content),
    reasoning: final.reasoning == null ? null : toStorableText(final.reasoning),
    output: null,
    status: "failed",
    finishReason: "error",
    error,
  };
  const textOnly: FinalState = { ...failed, model: null, models: [], sources: [], usage: null, costUsd: null };
  return [failed, textOnly, { ...textOnly, content: "", reasoning: null }];
}

/** Creates the final state of an answer that was interrupted too often. No model is called for it. */
export function createInterruptedState(
  live: Pick<LiveAnswer, "text" | "storedReasoning">,
  isCancelled: boolean,
): FinalState {
  const textFields = { content: toStorableText(live.text), reasoning: toStorableText(live.storedReasoning) };
  const commonFields = { ...textFields, model: null, models: [], usage: null, costUsd: null };
  if (isCancelled) return { ...commonFields, status: "cancelled", finishReason: "cancelled", error: null };
  const error: StoredError = { code: "internal", detail: "The answer was interrupted too often. Regenerate it." };
  return { ...commonFields, status: "failed", finishReason: "error", error };
}
