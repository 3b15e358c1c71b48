import type { AnswerPart, RunEnd } from "../answer-part.ts";
import { PauseSignal } from "../pause-signal.ts";
import type { PushPart } from "../provider.ts";

/** Receives each part as soon as it arrives. If it returns a promise, the run pauses until the promise resolves. */
export type FollowPart = (part: AnswerPart) => Promise<void> | void;

/**
 * Runs the chain for a reader that sometimes has to wait, for example until a row is stored. While a promise returned by
 * `onPart` is pending, the run is paused, and parts that still arrive are queued in order.
 * @param startRun runs the chain.
 * @returns how the run ended, after `onPart` has processed all parts.
 * @throws the error that `onPart` threw, after aborting the run.
 */
export function followRun<Request extends { signal: AbortSignal; pause?: PauseSignal }>(
  startRun: (request: Request, push: PushPart<AnswerPart>) => Promise<RunEnd>,
  request: Request,
  onPart: FollowPart,
): Promise<RunEnd> {
  const pause = new PauseSignal();
  const failure = new AbortController();
  const rejection = Promise.withResolvers<never>();
  const queue: AnswerPart[] = [];
  let isBusy = false;
  /** Resolves when all queued parts are processed. */
  let queueDone = Promise.resolve();

  function fail(error: unknown): void {
    rejection.reject(error);
    failure.abort();
  }

  async function processQueue(first: Promise<void>): Promise<void> {
    isBusy = true;
    pause.set(true);
    await first;
    for (let part = queue.shift(); part; part = queue.shift()) await onPart(part);
    isBusy = false;
    pause.set(false);
  }

  function push(part: AnswerPart): void {
    if (failure.signal.aborted) return;
    if (isBusy) {
      queue.push(part);
      return;
    }
    try {
      const processed = onPart(part);
      if (!processed) return;
      queueDone = processQueue(processed);
      queueDone.catch(fail);
    } catch (error) {
      fail(error);
    }
  }

  async function run(): Promise<RunEnd> {
    const signal = AbortSignal.any([request.signal, failure.signal]);
    const end = await startRun({ ...request, signal, pause }, push);
    await queueDone;
    return end;
  }
  return Promise.race([run(), rejection.promise]);
}
