import type { AttemptResult } from "./attempt.ts";
import type { DueDelivery } from "./due.ts";
import type { Endpoint } from "./leases.ts";
import type { ResultWriter } from "./result-writer.ts";
import type { DeliveryThrottle } from "./throttle.ts";

/** Maximum number of concurrent requests per endpoint. */
const IN_FLIGHT_MAX = 16;
/** Number of deliveries read per batch, with their content. */
const BATCH_ROWS = 64;
/** The next batch is read when fewer deliveries than this are buffered. */
const REFILL_BELOW_ROWS = 16;
/** Maximum age of a buffered delivery. Older ones are read again, because their content or the owner's access may have changed. */
const FRESH_AGE_MS_MAX = 1_000;
/** Maximum number of deliveries per endpoint that are buffered, in flight or being stored. */
const IN_PROGRESS_MAX = 256;
/** While deliveries are throttled, the worker tries again to start one after this time. */
const THROTTLED_RETRY_MS = 20;
/** An endpoint is released after it has been idle for this long. */
const IDLE_TIMEOUT_MS = 5_000;
/** Minimum time before an endpoint may have to yield its slot. */
const SLOT_MS_MIN = 2_000;

type Dependencies = {
  load(endpoint: Endpoint, inProgressIds: string[], limit: number): Promise<DueDelivery[]>;
  attempt(webhookId: string, delivery: DueDelivery, signal: AbortSignal): Promise<AttemptResult>;
  results: ResultWriter;
  throttle: Pick<DeliveryThrottle, "tryStart" | "recordLag">;
  onError(error: unknown): void;
  /** Called when the worker has finished, because it was idle, had to yield its slot, or its webhook was disabled or paused. */
  onEnd(): void;
};

/**
 * Creates a worker that delivers to an endpoint with several concurrent requests. Only one request per conversation runs at a time, so
 * that a conversation's events arrive in order. Failed deliveries are retried later, without delaying others.
 */
export function createEndpointWorker(
  endpoint: Endpoint,
  { load, attempt, results, throttle, onError, onEnd }: Dependencies,
) {
  const stopController = new AbortController();
  const startedAtMs = performance.now();
  /** Deliveries that are buffered, in flight or being stored. They must not be read again. */
  const inProgressIds = new Set<string>();
  const busyConversations = new Set<string>();
  let buffer: DueDelivery[] = [];
  let loadedAtMs = 0;
  let inFlightCount = 0;
  let mayHaveMore = true;
  let isLoading = false;
  let isFinishing = false;
  let idleTimer: Timer | undefined;
  let isProcessingScheduled = false;
  const idleCallbacks: (() => void)[] = [];

  const canStart = ({ conversationId }: DueDelivery): boolean =>
    conversationId === null || !busyConversations.has(conversationId);

  function processBuffer(): void {
    clearTimeout(idleTimer);
    // If no buffered delivery can start because the receiver hangs, reading them again would be useless.
    const isStale =
      performance.now() - loadedAtMs > FRESH_AGE_MS_MAX && inFlightCount < IN_FLIGHT_MAX && buffer.some(canStart);
    // While a batch is being read, buffered deliveries must not be dropped. They precede that batch, but would be read again after it.
    if (isFinishing || (isStale && !isLoading)) {
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
      void refillBuffer();
    if (inFlightCount > 0 || isLoading || inProgressIds.size > 0) return;
    for (const resolve of idleCallbacks.splice(0)) resolve();
    if (isFinishing) return;
    idleTimer = setTimeout(finish, IDLE_TIMEOUT_MS);
  }

  function startDeliveries(): void {
    for (let index = 0; index < buffer.length && inFlightCount < IN_FLIGHT_MAX; ) {
      const delivery = buffer[index] as DueDelivery;
      if (!canStart(delivery)) index += 1;
      else if (throttle.tryStart()) {
        buffer.splice(index, 1);
        void deliver(delivery);
      } else {
        scheduleProcessing();
        return;
      }
    }
  }

  function scheduleProcessing(): void {
    if (isProcessingScheduled) return;
    isProcessingScheduled = true;
    setTimeout(() => {
      isProcessingScheduled = false;
      processBuffer();
    }, THROTTLED_RETRY_MS);
  }

  async function refillBuffer(): Promise<void> {
    isLoading = true;
    mayHaveMore = false;
    try {
      const loadedDeliveries = await load(endpoint, [...inProgressIds], BATCH_ROWS);
      // If the buffer isn't empty, its age is the age of its oldest deliveries.
      if (buffer.length === 0) loadedAtMs = performance.now();
      if (!isFinishing) {
        for (const delivery of loadedDeliveries) inProgressIds.add(delivery.id);
        buffer.push(...loadedDeliveries);
      }
      if (loadedDeliveries.length === BATCH_ROWS) mayHaveMore = true;
      const unattempted = loadedDeliveries.find(({ attempts }) => attempts === 0);
      if (unattempted) throttle.recordLag(Date.now() - unattempted.occurredAt.getTime());
    } catch (error) {
      onError(error);
    }
    isLoading = false;
    processBuffer();
  }

  async function deliver(delivery: DueDelivery): Promise<void> {
    const { id, conversationId } = delivery;
    inFlightCount += 1;
    if (conversationId !== null) busyConversations.add(conversationId);
    let result: AttemptResult | undefined;
    try {
      result = await attempt(endpoint.id, delivery, stopController.signal);
    } catch (error) {
      // If this instance is shutting down, another instance repeats the delivery.
      if (!stopController.signal.aborted) onError(error);
    }
    inFlightCount -= 1;
    if (conversationId !== null) busyConversations.delete(conversationId);
    if (result) {
      results.add({ ...result, endpoint }, () => {
        inProgressIds.delete(id);
        processBuffer();
      });
      if (result.disableReason !== null || result.pauseMs !== null) finish();
    } else inProgressIds.delete(id);
    processBuffer();
  }

  function finish(): void {
    if (isFinishing) return;
    isFinishing = true;
    processBuffer();
    void waitUntilIdle().then(onEnd);
  }

  async function waitUntilIdle(): Promise<void> {
    if (inFlightCount === 0 && !isLoading && inProgressIds.size === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    idleCallbacks.push(resolve);
    await promise;
  }

  return {
    endpoint,

    /** Call this when there may be new deliveries. */
    nudge(): void {
      mayHaveMore = true;
      processBuffer();
    },

    /**
     * Call this when another endpoint is waiting for a slot. If this worker has run for SLOT_MS_MIN, it finishes after its in-flight
     * requests.
     */
    yieldSlot(): void {
      if (performance.now() - startedAtMs >= SLOT_MS_MIN) finish();
    },

    /**
     * Starts no more deliveries. Resolves when all results are stored. Aborts the requests that are still in flight at the deadline.
     */
    async stop(deadlineMs: number): Promise<void> {
      const timer = setTimeout(
        () => stopController.abort(new Error("The instance is shutting down.")),
        Math.max(0, deadlineMs - Date.now()),
      );
      clearTimeout(idleTimer);
      isFinishing = true;
      processBuffer();
      await waitUntilIdle();
      clearTimeout(timer);
    },
  };
}

export type EndpointWorker = ReturnType<typeof createEndpointWorker>;
