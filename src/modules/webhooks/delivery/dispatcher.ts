import { type Database, getReservedPool, withTransaction } from "../../../db/client.ts";
import type { Log } from "../../../lib/log.ts";
import type { Metrics } from "../../../lib/metrics.ts";
import type { Tracing } from "../../../lib/tracing/tracing.ts";
import type { AuditService } from "../../audit/service.ts";
import type { WebhookSecrets } from "../secrets.ts";
import { createAttempt, type SendOutgoing } from "./attempt.ts";
import { loadDue } from "./due.ts";
import { createEndpointWorker, type EndpointWorker } from "./endpoint-worker.ts";
import * as leases from "./leases.ts";
import { expandOutbox, findWork } from "./outbox.ts";
import { createResultWriter } from "./result-writer.ts";
import { createDeliveryThrottle } from "./throttle.ts";

/** Delay after the first event, to process it together with further ones. */
const NUDGE_DELAY_MS = 10;
/** Outbox rows expanded per transaction. Each one may represent hundreds of events. */
const OUTBOX_ROWS = 20;
/** Maximum duration of expanding the outbox before due deliveries are checked again. */
const EXPANSION_MS = 200;
/** Maximum endpoints that an instance delivers to concurrently. */
const ENDPOINTS_MAX = 256;
/** Timeout of in-flight requests at shutdown. */
const DRAIN_TIMEOUT_MS = 5_000;
/** Timeout for storing the results of these requests. */
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
  allowsPrivate: boolean;
  timeoutMs?: number;
  endpointsMax?: number;
};

/**
 * Delivers webhooks. One instance at a time expands outbox rows into deliveries. Only the instance that has an endpoint's lease delivers
 * to it. If an instance crashes before it has stored results, those deliveries are repeated with the same `webhook-id`.
 */
export function createWebhookDispatcher({
  timeoutMs = REQUEST_TIMEOUT_MS,
  endpointsMax = ENDPOINTS_MAX,
  ...deps
}: Dependencies) {
  const { database, log, instanceId } = deps;
  const getLeasePool = () => getReservedPool(database);
  const attempt = createAttempt({ ...deps, timeoutMs });
  const results = createResultWriter(deps);
  const throttle = createDeliveryThrottle();
  const workers = new Map<string, EndpointWorker>();
  let hasWebhooks = false;
  let isStopping = false;
  let checking: Promise<void> | undefined;
  let isCheckRequested = false;
  let nextExpansionAtMs = 0;
  let timer: Timer | undefined;

  async function expand(): Promise<void> {
    const expandUntilMs = performance.now() + EXPANSION_MS;
    while (!isStopping && (performance.now() >= nextExpansionAtMs || !throttle.isThrottled())) {
      const rowsMax = throttle.isThrottled() ? 1 : OUTBOX_ROWS;
      const result = await withTransaction(database, (sql) => expandOutbox(sql, rowsMax));
      if (!result || result.taken === 0) return;
      const nowMs = performance.now();
      nextExpansionAtMs = nowMs + throttle.computePause(result.made);
      if (nowMs < expandUntilMs) continue;
      // The outbox may be large, so due deliveries are checked before continuing.
      isCheckRequested = true;
      return;
    }
  }

  function startWorker(endpoint: leases.Endpoint): void {
    const existing = workers.get(endpoint.id);
    // If a worker exists, this instance's lease had expired, and it has claimed the endpoint again.
    if (existing) existing.endpoint.fence = endpoint.fence;
    else workers.set(endpoint.id, createWorker(endpoint));
    workers.get(endpoint.id)?.nudge();
  }

  function createWorker(endpoint: leases.Endpoint): EndpointWorker {
    return createEndpointWorker(endpoint, {
      load: (endpoint, inProgressIds, limit) => loadDue(database, instanceId, endpoint, inProgressIds, limit),
      attempt,
      results,
      throttle,
      onError: (err) => log.warn({ err, webhook_id: endpoint.id }, "reading webhook deliveries failed"),
      onEnd() {
        workers.delete(endpoint.id);
        void release([endpoint]);
      },
    });
  }

  /** Makes the oldest workers yield their slots to waiting endpoints, because a worker may have deliveries for days. */
  function yieldSlots(count: number): void {
    for (const worker of [...workers.values()].slice(0, count)) worker.yieldSlot();
  }

  /** Releases leases. If this fails, other instances must wait until the leases expire. */
  const release = (endpoints: leases.Endpoint[]): Promise<void> =>
    leases
      .releaseEndpoints(getLeasePool(), instanceId, endpoints)
      .catch((err: unknown) => log.debug({ err }, "releasing webhook leases failed"));

  async function checkOnce(): Promise<void> {
    const work = await findWork(database);
    hasWebhooks = work.hasWebhooks;
    if (work.hasOutbox) await expand();
    if (!hasWebhooks || isStopping) return;
    const due = await leases.listDueEndpoints(database, instanceId);
    for (const { id } of due) workers.get(id)?.nudge();
    const freeIds = due.filter(({ isFree }) => isFree).map(({ id }) => id);
    const slots = endpointsMax - workers.size;
    if (freeIds.length > slots) yieldSlots(freeIds.length - slots);
    if (freeIds.length === 0 || slots <= 0) return;
    const claimed = await leases.claimEndpoints(getLeasePool(), instanceId, freeIds.slice(0, slots));
    if (isStopping) await release(claimed);
    else for (const endpoint of claimed) startWorker(endpoint);
  }

  /** Checks again if a check was requested during the last one. */
  async function checkUntilIdle(): Promise<void> {
    do {
      isCheckRequested = false;
      await checkOnce();
    } while (isCheckRequested && !isStopping);
  }

  function check(): Promise<void> {
    checking ??= checkUntilIdle().finally(() => {
      checking = undefined;
    });
    return checking;
  }

  /** Schedules a check. Call this when there may be new work. */
  function checkSoon(): void {
    if (isStopping) return;
    isCheckRequested = true;
    if (checking) return;
    timer ??= setTimeout(
      () => {
        timer = undefined;
        check().catch((err) => log.debug({ err }, "checking for due webhooks failed"));
      },
      Math.max(NUDGE_DELAY_MS, nextExpansionAtMs - performance.now()),
    );
  }

  return {
    /**
     * Checks for due deliveries. Only one check runs at a time. Call this periodically to find deliveries that have become due, or were
     * added by other instances.
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
      clearTimeout(timer);
      await checking?.catch(() => {});
      const running = [...workers.values()];
      const abortAtMs = Math.min(deadlineMs - STORE_TIMEOUT_MS, Date.now() + DRAIN_TIMEOUT_MS);
      await Promise.all([
        ...running.map((worker) => worker.stop(abortAtMs)),
        results.stop(Math.max(abortAtMs, Date.now()) + STORE_TIMEOUT_MS),
      ]);
      if (running.length > 0) await release(running.map(({ endpoint }) => endpoint));
    },
  };
}

export type WebhookDispatcher = ReturnType<typeof createWebhookDispatcher>;
