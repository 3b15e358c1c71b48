import type { GenerationKey } from "./queries.ts";

/** More are not remembered: the sweep finds them (generations/jobs.ts). */
export const REMEMBERED_MAX = 10_000;

/** A generation, with the request that it answers, for the log. */
export type KnownGeneration = GenerationKey & { requestId?: string | null };

type Options = { hasRoom(): boolean; begin(key: KnownGeneration): void };

/**
 * Committed answers that found no free place on this instance, in their order: each begins as soon as a place is free. Only
 * a shortcut, since the sweep takes up whatever is pending. One that another instance has begun meanwhile is not claimed
 * again.
 */
export function createWaitingAnswers({ hasRoom, begin }: Options) {
  const waiting = new Map<string, KnownGeneration>();

  return {
    add(key: KnownGeneration): void {
      if (waiting.size < REMEMBERED_MAX) waiting.set(key.id, key);
    },
    /** Begins as many as there is room for; to be called when an answer has ended. */
    fill(): void {
      for (const [id, key] of waiting) {
        if (!hasRoom()) return;
        waiting.delete(id);
        begin(key);
      }
    },
  };
}
