import { createId } from "../../lib/id.ts";
import type { Context } from "./context.ts";
import type { LiveAnswer } from "./live-answer.ts";
import type { ClaimedGeneration } from "./queries.ts";

/** An owner that has not renewed its lease for so long counts as dead. */
export const GENERATION_LEASE_MS = 8_000;

/** An answer that this instance writes, with the lease on its generation: the right to write. */
export type RunningAnswer = {
  generation: ClaimedGeneration;
  /** What it has used is charged once under this id, unless its end is stored. */
  chargeId: string;
  live: LiveAnswer;
  /** What the model is shown, once it is put together. */
  context: Context | null;
  abort: AbortController;
  /** Why it is to end: by a user's stop, or released, which leaves the rest to another instance. */
  stop: "cancel" | "release" | null;
  released: AbortController;
  /** Fulfils when its end is stored, or it was released. */
  done: Promise<void>;
};

/** A claimed generation that is about to be written. */
export function createRunningAnswer(generation: ClaimedGeneration, live: LiveAnswer): RunningAnswer {
  return {
    generation,
    chargeId: createId(),
    live,
    context: null,
    abort: new AbortController(),
    stop: null,
    released: new AbortController(),
    done: Promise.resolve(),
  };
}

/** Ends an answer: for good, or here only. */
export function stopAnswer(answer: RunningAnswer, reason: "cancel" | "release"): void {
  // Also after a user's stop: that is stored, and whoever goes on obeys it.
  if (reason === "release") answer.stop = reason;
  else answer.stop ??= reason;
  if (reason === "release") answer.released.abort();
  answer.abort.abort();
}
