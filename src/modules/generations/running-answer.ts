import { createId } from "../../lib/id.ts";
import type { Context } from "./context.ts";
import type { LiveAnswer } from "./live-answer.ts";
import type { ClaimedGeneration } from "./queries.ts";

/** The lease duration. If an owner hasn't renewed its lease for this long, another instance takes over. */
export const GENERATION_LEASE_DURATION_MS = 8_000;

type StopReason = "cancel" | "fail" | "release";

/** An answer that this instance is writing. The instance has the lease on the generation, so only it may write. */
export type RunningAnswer = {
  generation: ClaimedGeneration;
  /** The id of the client's request, for the log. Null if the answer was taken over from another instance. */
  requestId: string | null;
  /** The id of the charge for the answer's usage, if its final state isn't stored. */
  chargeId: string;
  live: LiveAnswer;
  /** The model's context, once it is built. */
  context: Context | null;
  /** Measured with `performance.now()`. */
  startedAtMs: number;
  /** The time from the start to the first text. Null if there is no text yet, or if another instance started the answer. */
  firstTokenMs: number | null;
  abortController: AbortController;
  /** Why the answer should stop: because it was cancelled, has failed, or is released to another instance. */
  stopReason: StopReason | null;
  releaseController: AbortController;
  /** Resolves when the answer's final state is stored, or when the answer is released. */
  done: Promise<void>;
};

/** Creates the initial state of the answer to a claimed generation. */
export function createRunningAnswer(
  generation: ClaimedGeneration,
  live: LiveAnswer,
  requestId: string | null,
): RunningAnswer {
  return {
    generation,
    requestId,
    chargeId: createId(),
    live,
    context: null,
    startedAtMs: performance.now(),
    firstTokenMs: null,
    abortController: new AbortController(),
    stopReason: null,
    releaseController: new AbortController(),
    done: Promise.resolve(),
  };
}

/** Returns the fields that identify an answer in log lines. */
export const getAnswerLogFields = ({ generation, requestId }: Pick<RunningAnswer, "generation" | "requestId">) => ({
  message_id: generation.message_id,
  request_id: requestId,
});

/** Stops an answer. If the reason is `release`, another instance continues it. */
export function stopAnswer(answer: RunningAnswer, reason: StopReason): void {
  // A release overrides a cancellation, because the cancellation is stored and the next owner applies it.
  if (reason === "release") answer.stopReason = reason;
  else answer.stopReason ??= reason;
  if (reason === "release") answer.releaseController.abort();
  answer.abortController.abort();
}
