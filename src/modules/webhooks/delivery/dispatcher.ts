import { type Database, getReservedPool, withTransaction } from "../../../db/client.ts";
import type { Log } from "../../../lib/log.ts";
import type { Metrics } from "../../../lib/metrics.ts";
import type { Tracing } from "../../../lib/tracing/tracing.ts";
import type { AuditService } from "../../audit/service.ts";
import type { WebhookSecrets } from "../secrets.ts";
import { createAttemptFunction, type SendOutgoing } from "./attempt.ts";
import { loadDueDeliveries } from "./due.ts";
import { createEndpointWorker, type EndpointWorker } from "./endpoint-worker.ts";
import * as leases from "./leases.ts";
import { expandOutbox, findWork } from "./outbox.ts";
import { createResultWriter } from "./result-writer.ts";
import { createDeliveryThrottle } from "./throttle.ts";

/** Delay after an event, to process it together with events that follow. */
const NUDGE_DELAY_MS = 10;
/** Maximum number of outbox rows expanded per transaction. Each row may represent hundreds of events. */
const OUTBOX_ROWS_MAX = 20;
/** Maximum duration of expanding the outbox before due deliveries are checked again. */
const EXPANSION_MS = 200;
/** Maximum number of endpoints that an instance delivers to concurrently. */
const ENDPOINTS_MAX = 256;
/** Timeout of in-flight requests at shutdown. */
const DRAIN_TIMEOUT_MS = 5_000;
/** Timeout for storing the results of in-flight requests at shutdown. */
const STORE_TIMEOUT_MS = 2_000;
/** Timeout of a request. */
const REQUEST_TIMEOUT_MS = 15_000;

type Dependencies = {
  database: Database;
  audit: Pick<AuditService, "record">;
  metrics: Pick<Metrics, "webhookDeliveries">;
  log: Log;
  tracing?: Tracing | null;
  instanceId: string;
  secrets: Pick<WebhookSecrets, "open">;
  send: SendOutgoing;
  hasUserMessage(error: unknown): error is Error;
  /** Whether URLs may point to private addresses. */
  allowPrivate: boolean;
  timeoutMs?: number;
  endpointsMax?: number;
};

/**
 * Delivers webhooks. One instance at a time expands outbox rows into deliveries. Only the instance that has an endpoint's lease delivers
 * to it. If an instance crashes before it has stored a delivery's result, the delivery is repeated with the same `webhook-id`.
 */
export function createWebhookDispatcher({
  timeoutMs = REQUEST_TIMEOUT_MS,
  endpointsMax = ENDPOINTS_MAX,
  ...deps
}: Dependencies) {
  const { database, log, instanceId } = deps;
  const getLeasePool = () => getReservedPool(database);
  const attempt = createAttemptFunction({ ...deps, timeoutMs });
  const results = createResultWriter(deps);
  const throttle = createDeliveryThrottle();
  const workers = new Map<string, EndpointWorker>();
  let hasWebhooks = false;
  let isStopping = false;
  let runningCheck: Promise<void> | undefined;
  let isCheckRequested = false;
  let nextExpansionAtMs = 0;
  let checkTimer: Timer | undefined;

  async function expandOutboxRows(): Promise<void> {
    const expandUntilMs = performance.now() + EXPANSION_MS;
    while (!isStopping && (performance.now() >= nextExpansionAtMs || !throttle.isThrottled())) {
      const rowsMax = throttle.isThrottled() ? 1 : OUTBOX_ROWS_MAX;
      const result = await withTransaction(database, (sql) => expandOutbox(sql, rowsMax));
      if (!result || result.rowCount === 0) return;
      const nowMs = performance.now();
      nextExpansionAtMs = nowMs + throttle.computePauseMs(result.deliveryCount);
      if (nowMs < expandUntilMs) continue;
      // The outbox may be large, so due deliveries are checked before continuing.
      isCheckRequested = true;
      return;
    }
  }

  function startWorker(endpoint: leases.Endpoint): void {
    const existingWorker = workers.get(endpoint.id);
    // If a worker exists, this instance's lease had expired, and this instance has claimed the endpoint again.
    if (existingWorker) existingWorker.endpoint.fence = endpoint.fence;
    else workers.set(endpoint.id, createWorker(endpoint));
    workers.get(endpoint.id)?.nudge();
  }

  function createWorker(endpoint: leases.Endpoint): EndpointWorker {
    return createEndpointWorker(endpoint, {
      load: (current, inProgressIds, limit) => loadDueDeliveries(database, instanceId, current, inProgressIds, limit),
      attempt,
      results,
      throttle,
      onError: (err) => log.warn({ err, webhook_id: endpoint.id }, "reading webhook deliveries failed"),
      onEnd() {
        workers.delete(endpoint.id);
        void releaseLeases([endpoint]);
      },
    });
  }

  /** Makes the oldest workers yield their slots to waiting endpoints, because a worker might otherwise run for days. */
  function yieldSlots(count: number): void {
    for (const worker of [...workers.values()].slice(0, count)) worker.yieldSlot();
  }

  /** Releases leases. If this fails, other instances must wait until the leases expire. */
  const releaseLeases = (endpoints: leases.Endpoint[]): Promise<void> =>
    leases
      .releaseEndpoints(getLeasePool(), instanceId, endpoints)
      .catch((err: unknown) => log.debug({ err }, "releasing webhook leases failed"));

  async function checkOnce(): Promise<void> {
    const work = await findWork(database);
    hasWebhooks = work.hasWebhooks;
    if (work.hasOutbox) await expandOutboxRows();
    if (!hasWebhooks || isStopping) return;
    const dueEndpoints = await leases.listDueEndpoints(database, instanceId);
    for (const { id } of dueEndpoints) workers.get(id)?.nudge();
    const unleasedIds = dueEndpoints.filter(({ isFree }) => isFree).map(({ id }) => id);
    const freeSlots = endpointsMax - workers.size;
    if (unleasedIds.length > freeSlots) yieldSlots(unleasedIds.length - freeSlots);
    if (unleasedIds.length === 0 || freeSlots <= 0) return;
    const claimedEndpoints = await leases.claimEndpoints(getLeasePool(), instanceId, unleasedIds.slice(0, freeSlots));
    if (isStopping) await releaseLeases(claimedEndpoints);
    else for (const endpoint of claimedEndpoints) startWorker(endpoint);
  }

  /** Repeats the check if another one was requested while it ran. */
  async function checkUntilIdle(): Promise<void> {
    do {
      isCheckRequested = false;
      await checkOnce();
    } while (isCheckRequested && !isStopping);
  }

  function check(): Promise<void> {
    runningCheck ??= checkUntilIdle().finally(() => {
      runningCheck = undefined;
    });
    return runningCheck;
  }

  /** Schedules a check. Call this when there may be new work. */
  function checkSoon(): void {
    if (isStopping) return;
    isCheckRequested = true;
    if (runningCheck) return;
    checkTimer ??= setTimeout(
      () => {
        checkTimer = undefined;
        check().catch((err) => log.debug({ err }, "checking for due webhooks failed"));
      },
      Math.max(NUDGE_DELAY_MS, nextExpansionAtMs - performance.now()),
    );
  }

  return {
    /**
     * Checks for due deliveries. Only one check runs at a time. Call this periodically to find deliveries that have become due or
     * that other instances have added.
     */
    check,

    checkSoon,

    /** Call this after each event. Schedules a check if there are webhooks. */
    nudge(): void {
      if (!hasWebhooks) return;
      throttle.countEvent();
      checkSoon();
    },

    /** Renews this instance's leases. Call this several times per lease duration. */
    async renew(): Promise<void> {
      const endpoints = [...workers.values()].map(({ endpoint }) => endpoint);
      if (endpoints.length > 0) await leases.renewEndpoints(getLeasePool(), instanceId, endpoints);
    },

    /** Starts no more deliveries, waits for in-flight requests, and releases the endpoints. */
    async stop(deadlineMs: number): Promise<void> {
      isStopping = true;
      clearTimeout(checkTimer);
      await runningCheck?.catch(() => {});
      const runningWorkers = [...workers.values()];
      const abortAtMs = Math.min(deadlineMs - STORE_TIMEOUT_MS, Date.now() + DRAIN_TIMEOUT_MS);
      await Promise.all([
        ...runningWorkers.map((worker) => worker.stop(abortAtMs)),
        results.stop(Math.max(abortAtMs, Date.now()) + STORE_TIMEOUT_MS),
      ]);
      if (runningWorkers.length > 0) await releaseLeases(runningWorkers.map(({ endpoint }) => endpoint));
    },
  };
}

export type WebhookDispatcher = ReturnType<typeof createWebhookDispatcher>;
