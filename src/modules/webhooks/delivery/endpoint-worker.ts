import type { AttemptResult } from "./attempt.ts";
import type { DueDelivery } from "./due.ts";
import type { Endpoint } from "./leases.ts";
import type { ResultWriter } from "./result-writer.ts";
import type { DeliveryThrottle } from "./throttle.ts";

/** Concurrent requests per endpoint. */
const IN_FLIGHT_MAX = 16;
/** Deliveries read per batch, with their content. */
const LOADED_ROWS = 64;
/** The next batch is read when fewer are waiting. */
const REFILL_BELOW_ROWS = 16;
/** Deliveries read longer ago are read again: their content and access may have changed. */
const FRESH_MS = 1_000;
/** Deliveries per endpoint that are read, in flight or being stored: if storing is slow, sending pauses. */
const HELD_MAX = 256;
/** Retry interval while deliveries are throttled. */
const THROTTLED_RETRY_MS = 20;
/** An endpoint idle for this long is released. */
const IDLE_MS = 5_000;
/** How long an endpoint is served before it makes room for others. */
const SERVICE_MS_MIN = 2_000;

type Dependencies = {
  load(endpoint: Endpoint, heldIds: string[], rows: number): Promise<DueDelivery[]>;
  attempt(webhookId: string, due: DueDelivery, signal: AbortSignal): Promise<AttemptResult>;
  results: ResultWriter;
  throttle: Pick<DeliveryThrottle, "take" | "recordLag">;
  onError(error: unknown): void;
  /** Called when it is idle, or must stop. */
  onEnd(): void;
};

/**
 * Delivers to one endpoint: several concurrent requests, but one per conversation, so that its events arrive in order. A
 * failed delivery waits for its retry without delaying others.
 */
export function createEndpointWorker(
  endpoint: Endpoint,
  { load, attempt, results, throttle, onError, onEnd }: Dependencies,
) {
  const stopping = new AbortController();
  const startedAtMs = performance.now();
  /** Deliveries not to be read again. */
  const held = new Set<string>();
  const busyConversations = new Set<string>();
  let buffer: DueDelivery[] = [];
  let loadedAtMs = 0;
  let inFlight = 0;
  let mayHaveMore = true;
  let isLoading = false;
  let isEnding = false;
  let idleTimer: Timer | undefined;
  let isThrottled = false;
  const waitingForIdle: (() => void)[] = [];

  const canBegin = ({ conversationId }: DueDelivery): boolean =>
    conversationId === null || !busyConversations.has(conversationId);

  function pump(): void {
    clearTimeout(idleTimer);
    // Deliveries that can't start while the receiver hangs aren't read again and again.
    const isOld = performance.now() - loadedAtMs > FRESH_MS && inFlight < IN_FLIGHT_MAX && buffer.some(canBegin);
    // Not during a read: its deliveries come after those dropped here.
    if (isEnding || (isOld && !isLoading)) {
      for (const { id } of buffer) held.delete(id);
      buffer = [];
      mayHaveMore = true;
    }
    start();
    if (!isEnding && mayHaveMore && !isLoading && buffer.length < REFILL_BELOW_ROWS && held.size < HELD_MAX)
      void refill();
    if (inFlight > 0 || isLoading || held.size > 0) return;
    for (const resolve of waitingForIdle.splice(0)) resolve();
    if (isEnding) return;
    idleTimer = setTimeout(end, IDLE_MS);
  }

  function start(): void {
    for (let at = 0; at < buffer.length && inFlight < IN_FLIGHT_MAX; ) {
      const due = buffer[at] as DueDelivery;
      if (!canBegin(due)) at += 1;
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
    if (isThrottled) return;
    isThrottled = true;
    setTimeout(() => {
      isThrottled = false;
      pump();
    }, THROTTLED_RETRY_MS);
  }

  async function refill(): Promise<void> {
    isLoading = true;
    mayHaveMore = false;
    try {
      const found = await load(endpoint, [...held], LOADED_ROWS);
      // Waiting deliveries are older than those just read; they are read again when they are outdated.
      if (buffer.length === 0) loadedAtMs = performance.now();
      if (!isEnding) {
        for (const due of found) held.add(due.id);
        buffer.push(...found);
      }
      if (found.length === LOADED_ROWS) mayHaveMore = true;
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
      // The instance is shutting down: another one delivers it again.
      if (!stopping.signal.aborted) onError(error);
    }
    inFlight -= 1;
    if (conversationId !== null) busyConversations.delete(conversationId);
    if (result) {
      results.add({ ...result, endpoint }, () => {
        held.delete(id);
        pump();
      });
      if (result.disables !== null || result.pauseMs !== null) end();
    } else held.delete(id);
    pump();
  }

  function end(): void {
    if (isEnding) return;
    isEnding = true;
    pump();
    void untilIdle().then(onEnd);
  }

  async function untilIdle(): Promise<void> {
    if (inFlight === 0 && !isLoading && held.size === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    waitingForIdle.push(resolve);
    await promise;
  }

  return {
    endpoint,

    /** There may be something to deliver. */
    nudge(): void {
      mayHaveMore = true;
      pump();
    },

    /** Another endpoint waits for a slot: finishes after the requests in flight, if it had its share of time. */
    yieldSlot(): void {
      if (performance.now() - startedAtMs >= SERVICE_MS_MIN) end();
    },

    /** Starts nothing new; resolves when all results are stored. Requests still in flight at the deadline are aborted. */
    async stop(deadlineMs: number): Promise<void> {
      const timer = setTimeout(
        () => stopping.abort(new Error("The instance is shutting down.")),
        Math.max(0, deadlineMs - Date.now()),
      );
      clearTimeout(idleTimer);
      isEnding = true;
      pump();
      await untilIdle();
      clearTimeout(timer);
    },
  };
}

export type EndpointWorker = ReturnType<typeof createEndpointWorker>;
