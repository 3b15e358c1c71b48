import { fitJson, fitText, fitUsd } from "../../db/storable.ts";
import type { StoredError } from "../../lib/error-codes.ts";
import { fitTokens } from "../messages/service.ts";
import type { LiveAnswer } from "./live-answer.ts";
import type { FinalState } from "./queries.ts";

/**
 * A generation with this many interruptions isn't started again: its answer ends with the text so far. Interruptions are
 * rare (an instance died), and each may pay for a model again, so something else must be wrong.
 */
export const INTERRUPTIONS_MAX = 5;

/**
 * Fits an end to its columns: sums of tokens and costs may be too large, and parsed JSON may contain what Postgres can't
 * store.
 */
export const fitFinal = (final: FinalState): FinalState => ({
  ...final,
  usage: final.usage && fitTokens(final.usage),
  costUsd: fitUsd(final.costUsd),
  output: final.output == null ? null : fitJson(final.output),
});

/**
 * What to store instead of an end that the database permanently rejects, best first: the same as a failure, then only the
 * text, then no text, so that no message stays `streaming`.
 */
export function listSubstitutes(final: FinalState): FinalState[] {
  const error: StoredError = { code: "internal", detail: "The response could not be stored. Regenerate it." };
  const failed: FinalState = {
    ...final,
    content: fitText(final.content),
    reasoning: final.reasoning == null ? null : fitText(final.reasoning),
    output: null,
    status: "failed",
    finishReason: "error",
    error,
  };
  const bare: FinalState = { ...failed, model: null, models: [], sources: [], usage: null, costUsd: null };
  return [failed, bare, { ...bare, content: "", reasoning: null }];
}

/** The end of an answer that was interrupted too often: no model is called. */
export function createFailedEnd(live: Pick<LiveAnswer, "text" | "storedReasoning">, isCancelled: boolean): FinalState {
  const texts = { content: fitText(live.text), reasoning: fitText(live.storedReasoning) };
  const rest = { ...texts, model: null, models: [], usage: null, costUsd: null };
  if (isCancelled) return { ...rest, status: "cancelled", finishReason: "cancelled", error: null };
  const error: StoredError = { code: "internal", detail: "The answer was interrupted too often. Regenerate it." };
  return { ...rest, status: "failed", finishReason: "error", error };
}
