import { createId } from "../../lib/id.ts";
import type { Context } from "./context.ts";
import type { LiveAnswer } from "./live-answer.ts";
import type { ClaimedGeneration } from "./queries.ts";

/** An owner that has not renewed its lease for so long counts as dead. */
export const GENERATION_LEASE_MS = 8_000;

type StopReason = "cancel" | "fail" | "release";

/** An answer that this instance writes, with the lease on its generation: the right to write. */
export type RunningAnswer = {
  generation: ClaimedGeneration;
  /** Of the request that it answers; null: it was taken over from another instance. For the log. */
  requestId: string | null;
  /** What it has used is charged once under this id, unless its end is stored. */
  chargeId: string;
  live: LiveAnswer;
  /** What the model is shown, once it is put together. */
  context: Context | null;
  /** As `performance.now()` counts. */
  startedAtMs: number;
  /** Milliseconds from then to the first text. Null: there is none yet, or another instance began with it. */
  firstTokenMs: number | null;
  abort: AbortController;
  /** Why it is to end: stopped for a user, failed, or released, which leaves the rest to another instance. */
  stop: StopReason | null;
  released: AbortController;
  /** Fulfils when its end is stored, or it was released. */
  done: Promise<void>;
};

/** A claimed generation that is about to be written. */
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

/** How lines of the log name it. */
export const nameAnswer = ({ generation, requestId }: Pick<RunningAnswer, "generation" | "requestId">) => ({
  message_id: generation.message_id,
  request_id: requestId,
});

/** Ends an answer: for good, or here only. */
export function stopAnswer(answer: RunningAnswer, reason: StopReason): void {
  // Also after a user's stop: that is stored, and whoever goes on obeys it.
  if (reason === "release") answer.stop = reason;
  else answer.stop ??= reason;
  if (reason === "release") answer.released.abort();
  answer.abort.abort();
}
