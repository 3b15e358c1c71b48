import type { AttemptResult } from "./attempt.ts";
import type { DueDelivery } from "./due.ts";
import type { Endpoint } from "./leases.ts";
import type { ResultWriter } from "./result-writer.ts";
import type { DeliveryThrottle } from "./throttle.ts";

/** Maximum concurrent requests per endpoint. */
const IN_FLIGHT_MAX = 16;
/** Maximum deliveries read per batch, with their content. */
const BATCH_ROWS = 64;
/** The next batch is read when fewer deliveries than this are buffered. */
const REFILL_BELOW_ROWS = 16;
/** Buffered deliveries older than this are read again, because their content or the owner's access may have changed. */
const FRESH_MS = 1_000;
/** Maximum deliveries per endpoint that are buffered, in flight or being stored. */
const IN_PROGRESS_MAX = 256;
/** Retry interval while deliveries are throttled. */
const THROTTLED_RETRY_MS = 20;
/** An endpoint that has been idle for this long is released. */
const IDLE_MS = 5_000;
/** How long an endpoint is served before it may have to yield its slot to others. */
const SLOT_MS_MIN = 2_000;

type Dependencies = {
  load(endpoint: Endpoint, loadedIds: string[], rows: number): Promise<DueDelivery[]>;
  attempt(webhookId: string, due: DueDelivery, signal: AbortSignal): Promise<AttemptResult>;
  results: ResultWriter;
  throttle: Pick<DeliveryThrottle, "take" | "recordLag">;
  onError(error: unknown): void;
  /** Called when the worker has finished: it was idle, had to yield its slot, or its webhook was disabled or paused. */
  onEnd(): void;
};

/**
 * Delivers to one endpoint, with several concurrent requests, but only one per conversation, so that its events arrive
 * in order. Failed deliveries are retried later, without delaying others.
 */
export function createEndpointWorker(
  endpoint: Endpoint,
  { load, attempt, results, throttle, onError, onEnd }: Dependencies,
) {
  const stopping = new AbortController();
  const startedAtMs = performance.now();
  /** Deliveries that are buffered, in flight or being stored, which must not be read again. */
  const inProgressIds = new Set<string>();
  const busyConversations = new Set<string>();
  let buffer: DueDelivery[] = [];
  let loadedAtMs = 0;
  let inFlight = 0;
  let mayHaveMore = true;
  let isLoading = false;
  let isFinishing = false;
  let idleTimer: Timer | undefined;
  let isPumpScheduled = false;
  const idleCallbacks: (() => void)[] = [];

  const canStart = ({ conversationId }: DueDelivery): boolean =>
    conversationId === null || !busyConversations.has(conversationId);

  function pump(): void {
    clearTimeout(idleTimer);
    // If no buffered delivery can start because the receiver hangs, they aren't read again and again.
    const isOld = performance.now() - loadedAtMs > FRESH_MS && inFlight < IN_FLIGHT_MAX && buffer.some(canStart);
    // Not while a batch is being read, because its deliveries follow those that would be dropped here.
    if (isFinishing || (isOld && !isLoading)) {
      for (const { id } of buffer) inProgressIds.delete(id);
      buffer = [];
      mayHaveMore = true;
    }
    startDeliveries();
    if (
      !isFinishing &&
      mayHaveMore &&
      !isLoading &&
      buffer.length < REFILL_BELOW_ROWS &&
      inProgressIds.size < IN_PROGRESS_MAX
    )
      void refill();
    if (inFlight > 0 || isLoading || inProgressIds.size > 0) return;
    for (const resolve of idleCallbacks.splice(0)) resolve();
    if (isFinishing) return;
    idleTimer = setTimeout(finish, IDLE_MS);
  }

  function startDeliveries(): void {
    for (let at = 0; at < buffer.length && inFlight < IN_FLIGHT_MAX; ) {
      const due = buffer[at] as DueDelivery;
      if (!canStart(due)) at += 1;
      else if (throttle.take()) {
        buffer.splice(at, 1);
        void deliver(due);
      } else {
        schedulePump();
        return;
      }
    }
  }

  function schedulePump(): void {
    if (isPumpScheduled) return;
    isPumpScheduled = true;
    setTimeout(() => {
      isPumpScheduled = false;
      pump();
    }, THROTTLED_RETRY_MS);
  }

  async function refill(): Promise<void> {
    isLoading = true;
    mayHaveMore = false;
    try {
      const found = await load(endpoint, [...inProgressIds], BATCH_ROWS);
      // If the buffer isn't empty, its age is that of its oldest deliveries.
      if (buffer.length === 0) loadedAtMs = performance.now();
      if (!isFinishing) {
        for (const due of found) inProgressIds.add(due.id);
        buffer.push(...found);
      }
      if (found.length === BATCH_ROWS) mayHaveMore = true;
      const first = found.find(({ attempts }) => attempts === 0);
      if (first) throttle.recordLag(Date.now() - first.occurredAt.getTime());
    } catch (error) {
      onError(error);
    }
    isLoading = false;
    pump();
  }

  async function deliver(due: DueDelivery): Promise<void> {
    const { id, conversationId } = due;
    inFlight += 1;
    if (conversationId !== null) busyConversations.add(conversationId);
    let result: AttemptResult | undefined;
    try {
      result = await attempt(endpoint.id, due, stopping.signal);
    } catch (error) {
      // If the instance is shutting down, another one repeats the delivery.
      if (!stopping.signal.aborted) onError(error);
    }
    inFlight -= 1;
    if (conversationId !== null) busyConversations.delete(conversationId);
    if (result) {
      results.add({ ...result, endpoint }, () => {
        inProgressIds.delete(id);
        pump();
      });
      if (result.disables !== null || result.pauseMs !== null) finish();
    } else inProgressIds.delete(id);
    pump();
  }

  function finish(): void {
    if (isFinishing) return;
    isFinishing = true;
    pump();
    void waitUntilIdle().then(onEnd);
  }

  async function waitUntilIdle(): Promise<void> {
    if (inFlight === 0 && !isLoading && inProgressIds.size === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    idleCallbacks.push(resolve);
    await promise;
  }

  return {
    endpoint,

    /** Call this when there may be something to deliver. */
    nudge(): void {
      mayHaveMore = true;
      pump();
    },

    /**
     * Call this when another endpoint is waiting for a slot. If this one has been served for SLOT_MS_MIN, it finishes
     * after its in-flight requests.
     */
    yieldSlot(): void {
      if (performance.now() - startedAtMs >= SLOT_MS_MIN) finish();
    },

    /**
     * Stops starting deliveries. Resolves when all results are stored. Requests that are still in flight at the
     * deadline are aborted.
     */
    async stop(deadlineMs: number): Promise<void> {
      const timer = setTimeout(
        () => stopping.abort(new Error("The instance is shutting down.")),
        Math.max(0, deadlineMs - Date.now()),
      );
      clearTimeout(idleTimer);
      isFinishing = true;
      pump();
      await waitUntilIdle();
      clearTimeout(timer);
    },
  };
}

export type EndpointWorker = ReturnType<typeof createEndpointWorker>;
