import type { GenerationKey } from "./queries.ts";

/** More are not remembered: the sweep finds them (generations/jobs.ts). */
export const WAITING_MAX = 10_000;

/** A generation with its request id, for the log. */
export type KnownGeneration = GenerationKey & { requestId?: string | null };

type Options = { hasRoom(): boolean; begin(key: KnownGeneration): void };

/**
 * Committed answers without a free slot on this instance, in order: each starts when a slot is free. Only a shortcut, since
 * the sweep claims everything pending. An answer that another instance has started is not claimed again.
 */
export function createWaitingAnswers({ hasRoom, begin }: Options) {
  const waiting = new Map<string, KnownGeneration>();

  return {
    add(key: KnownGeneration): void {
      if (waiting.size < WAITING_MAX) waiting.set(key.id, key);
    },
    /** Starts as many as there is room for. Call it when an answer has ended. */
    fill(): void {
      for (const [id, key] of waiting) {
        if (!hasRoom()) return;
        waiting.delete(id);
        begin(key);
      }
    },
  };
}
