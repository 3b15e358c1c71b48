import { createId } from "../../lib/id.ts";
import type { Context } from "./context.ts";
import type { LiveAnswer } from "./live-answer.ts";
import type { ClaimedGeneration } from "./queries.ts";

/** An owner that hasn't renewed its lease for this long counts as dead. */
export const GENERATION_LEASE_MS = 8_000;

type StopReason = "cancel" | "fail" | "release";

/** An answer that this instance writes. It has the lease on the generation, which is the right to write. */
export type RunningAnswer = {
  generation: ClaimedGeneration;
  /** The id of the request that it answers, for the log; null if it was taken over from another instance. */
  requestId: string | null;
  /** The id under which its usage is charged once if its final state isn't stored. */
  chargeId: string;
  live: LiveAnswer;
  /** The model's context, once it is built. */
  context: Context | null;
  /** Measured with `performance.now()`. */
  startedAtMs: number;
  /** Milliseconds from the start to the first text; null if there is none yet, or if another instance started the answer. */
  firstTokenMs: number | null;
  abort: AbortController;
  /** Why it should stop: cancelled for a user, failed, or released to another instance. */
  stop: StopReason | null;
  released: AbortController;
  /** Resolves when its final state is stored, or when it was released. */
  done: Promise<void>;
};

/** Creates the state of a claimed generation before it is written. */
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
    abort: new AbortController(),
    stop: null,
    released: new AbortController(),
    done: Promise.resolve(),
  };
}

/** The fields that identify an answer in log lines. */
export const answerLogFields = ({ generation, requestId }: Pick<RunningAnswer, "generation" | "requestId">) => ({
  message_id: generation.message_id,
  request_id: requestId,
});

/** Stops an answer, either for good or only on this instance. */
export function stopAnswer(answer: RunningAnswer, reason: StopReason): void {
  // Even after a cancellation, because that is stored and the successor applies it.
  if (reason === "release") answer.stop = reason;
  else answer.stop ??= reason;
  if (reason === "release") answer.released.abort();
  answer.abort.abort();
}
