import type { SpanContext } from "../../lib/tracing/tracing.ts";
import type { GenerationKey } from "./queries.ts";

/** Maximum number of queued answers. A job (generations/jobs.ts) claims the others. */
export const WAITING_ANSWERS_MAX = 10_000;

/** A generation with the id and the span of its request. */
export type PendingGeneration = GenerationKey & { requestId?: string | null; trace?: SpanContext | undefined };

type Options = { hasFreeSlots(): boolean; startClaim(generation: PendingGeneration): void };

/**
 * Creates a queue of committed answers that wait for a free slot on this instance. The queue only makes answers start sooner: a job would
 * eventually claim them anyway. An answer that another instance has started isn't claimed again.
 */
export function createWaitingAnswerQueue({ hasFreeSlots, startClaim }: Options) {
  const waitingById = new Map<string, PendingGeneration>();

  return {
    add(generation: PendingGeneration): void {
      if (waitingById.size < WAITING_ANSWERS_MAX) waitingById.set(generation.id, generation);
    },
    /** Starts as many answers as there are free slots. Call it when an answer has ended. */
    startNext(): void {
      for (const [id, generation] of waitingById) {
        if (!hasFreeSlots()) return;
        waitingById.delete(id);
        startClaim(generation);
      }
    },
  };
}
