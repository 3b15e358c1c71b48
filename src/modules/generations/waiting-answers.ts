import type { SpanContext } from "../../lib/tracing/tracing.ts";
import type { GenerationKey } from "./queries.ts";

/** Maximum waiting answers; the sweep (generations/jobs.ts) finds any others. */
export const WAITING_MAX = 10_000;

/** A generation with the id and the span of its request. */
export type KnownGeneration = GenerationKey & { requestId?: string | null; trace?: SpanContext | undefined };

type Options = { hasFreeSlots(): boolean; begin(key: KnownGeneration): void };

/**
 * Queues committed answers while this instance has no free slot, and starts them in order. This only speeds up their start, since
 * the sweep claims everything pending. An answer that another instance has started isn't claimed again.
 */
export function createWaitingAnswers({ hasFreeSlots, begin }: Options) {
  const waiting = new Map<string, KnownGeneration>();

  return {
    add(key: KnownGeneration): void {
      if (waiting.size < WAITING_MAX) waiting.set(key.id, key);
    },
    /** Starts as many answers as there are free slots. Call it when an answer has ended. */
    fill(): void {
      for (const [id, key] of waiting) {
        if (!hasFreeSlots()) return;
        waiting.delete(id);
        begin(key);
      }
    },
  };
}
