import type { AnswerPart, RunEnd } from "../answer-part.ts";
import { PauseSignal } from "../pause-signal.ts";
import type { PushPart } from "../provider.ts";

/** Takes a part in the tick in which it comes; a promise holds the run, and the parts after it, back. */
export type FollowPart = (part: AnswerPart) => Promise<void> | void;

/**
 * The adapter for readers that have to wait for something at some parts, such as a row that is stored before they go on.
 * `take` is called in the tick of each part. Where it gives a promise, the run is paused and the parts that are on their
 * way anyway are kept until that is fulfilled, so their order holds.
 * @param start runs the chain.
 * @returns how the run ended, once all parts are taken.
 * @throws what `take` throws. The run is aborted then.
 */
export function follow<Request extends { signal: AbortSignal; pause?: PauseSignal }>(
  start: (request: Request, push: PushPart<AnswerPart>) => Promise<RunEnd>,
  request: Request,
  take: FollowPart,
): Promise<RunEnd> {
  const pause = new PauseSignal();
  const failing = new AbortController();
  const failed = Promise.withResolvers<never>();
  const waiting: AnswerPart[] = [];
  let isBusy = false;
  /** Fulfils when all parts that had to wait are taken. */
  let allTaken = Promise.resolve();

  function fail(error: unknown): void {
    failed.reject(error);
    failing.abort();
  }

  /** Waits for a part to be taken, then takes those behind it. */
  async function takeInOrder(first: Promise<void>): Promise<void> {
    isBusy = true;
    pause.set(true);
    await first;
    for (let part = waiting.shift(); part; part = waiting.shift()) await take(part);
    isBusy = false;
    pause.set(false);
  }

  function push(part: AnswerPart): void {
    if (failing.signal.aborted) return;
    if (isBusy) {
      waiting.push(part);
      return;
    }
    try {
      const taken = take(part);
      if (!taken) return;
      allTaken = takeInOrder(taken);
      allTaken.catch(fail);
    } catch (error) {
      fail(error);
    }
  }

  async function run(): Promise<RunEnd> {
    const signal = AbortSignal.any([request.signal, failing.signal]);
    const end = await start({ ...request, signal, pause }, push);
    await allTaken;
    return end;
  }
  return Promise.race([run(), failed.promise]);
}
