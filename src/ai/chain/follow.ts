import type { AnswerPart, RunEnd } from "../answer-part.ts";
import { PauseSignal } from "../pause-signal.ts";
import type { PushPart } from "../provider.ts";

/** Receives a part in the tick it arrives. A returned promise pauses the run and the parts after it. */
export type FollowPart = (part: AnswerPart) => Promise<void> | void;

/**
 * Adapter for readers that have to wait at some parts, for example until a row is stored. Calls `take` in the tick of each
 * part. If it returns a promise, the run is paused, and parts already in flight are queued until it resolves, so the order
 * is kept.
 * @param start runs the chain.
 * @returns how the run ended, once all parts are taken.
 * @throws what `take` throws; the run is aborted then.
 */
export function follow<Request extends { signal: AbortSignal; pause?: PauseSignal }>(
  start: (request: Request, push: PushPart<AnswerPart>) => Promise<RunEnd>,
  request: Request,
  onPart: FollowPart,
): Promise<RunEnd> {
  const pause = new PauseSignal();
  const failure = new AbortController();
  const failed = Promise.withResolvers<never>();
  const waiting: AnswerPart[] = [];
  let isBusy = false;
  /** Resolves when all queued parts are taken. */
  let allHandled = Promise.resolve();

  function fail(error: unknown): void {
    failed.reject(error);
    failure.abort();
  }

  /** Waits for a part to be taken, then takes the queued ones. */
  async function handleQueued(first: Promise<void>): Promise<void> {
    isBusy = true;
    pause.set(true);
    await first;
    for (let part = waiting.shift(); part; part = waiting.shift()) await onPart(part);
    isBusy = false;
    pause.set(false);
  }

  function push(part: AnswerPart): void {
    if (failure.signal.aborted) return;
    if (isBusy) {
      waiting.push(part);
      return;
    }
    try {
      const handled = onPart(part);
      if (!handled) return;
      allHandled = handleQueued(handled);
      allHandled.catch(fail);
    } catch (error) {
      fail(error);
    }
  }

  async function run(): Promise<RunEnd> {
    const signal = AbortSignal.any([request.signal, failure.signal]);
    const end = await start({ ...request, signal, pause }, push);
    await allHandled;
    return end;
  }
  return Promise.race([run(), failed.promise]);
}
