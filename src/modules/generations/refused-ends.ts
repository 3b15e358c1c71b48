import { fitJson, fitText, fitUsd } from "../../db/storable.ts";
import type { StoredError } from "../../lib/error-codes.ts";
import { fitTokens } from "../messages/service.ts";
import type { FinalState } from "./queries.ts";

/**
 * A generation that was interrupted so often is not begun again: its answer ends with the text so far. An interruption is
 * rare (an instance died), and each may pay a model again, so what is interrupted this often fails for a reason of its own.
 */
export const INTERRUPTIONS_MAX = 5;

/** An end as the columns take it: sums of tokens and money may be larger, and parsed JSON may hold what Postgres does not store. */
export const fitFinal = (final: FinalState): FinalState => ({
  ...final,
  usage: final.usage && fitTokens(final.usage),
  costUsd: fitUsd(final.costUsd),
  output: final.output == null ? null : fitJson(final.output),
});

/**
 * What is stored instead of an end that the database refuses for good, best first: the same as a failure, then with nothing
 * but the text, then without the text as well, so that no message stays `streaming`.
 */
export function listSubstitutes(final: FinalState): FinalState[] {
  const error: StoredError = { code: "internal", detail: "The answer could not be stored. Ask for it again." };
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

/** The end of an answer that was interrupted too often: no model is asked. */
export function giveUp(text: string, isCancelled: boolean): FinalState {
  const rest = { content: fitText(text), model: null, models: [], usage: null, costUsd: null };
  if (isCancelled) return { ...rest, status: "cancelled", finishReason: "cancelled", error: null };
  const error: StoredError = { code: "internal", detail: "The answer was interrupted too often. Ask for it again." };
  return { ...rest, status: "failed", finishReason: "error", error };
}
