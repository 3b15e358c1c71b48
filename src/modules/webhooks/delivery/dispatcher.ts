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

/** How long to wait for more events after the first one, to handle them together. */
const NUDGE_DELAY_MS = 10;
/** Outbox rows expanded per transaction. Each may represent hundreds of events. */
const OUTBOX_ROWS = 20;
/** How long the outbox is expanded before due deliveries are checked again. */
const EXPANSION_MS = 200;
/** Maximum endpoints that one instance delivers to concurrently. */
const ENDPOINTS_MAX = 256;
/** How long in-flight requests may take at shutdown, and in addition, how long storing their results may take. */
const DRAIN_MS_MAX = 5_000;
const STORING_MS_MAX = 2_000;
/** Timeout of a request. */
const TIMEOUT_MS = 15_000;

type Dependencies = {
  database: Database;
  audit: Pick<AuditService, "record">;
  metrics: Pick<Metrics, "webhookDeliveries">;
  log: Log;
  tracing?: Tracing | null;
  instanceId: string;
  secrets: Pick<WebhookSecrets, "open">;
  send: SendOutgoing;
  isForUsers(error: unknown): error is Error;
  allowsPrivate: boolean;
  timeoutMs?: number;
  endpointsMax?: number;
};

/**
 * Delivers webhooks. One instance at a time turns outbox rows into deliveries. Each endpoint is served by the instance
 * that holds its lease. If an instance crashes before it has stored results, those deliveries are repeated with the
 * same `webhook-id`.
 */
export function createWebhookDispatcher({
  timeoutMs = TIMEOUT_MS,
  endpointsMax = ENDPOINTS_MAX,
  ...deps
}: Dependencies) {
  const { database, log, instanceId } = deps;
  const reserved = () => getReservedPool(database);
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
      const rows = throttle.isThrottled() ? 1 : OUTBOX_ROWS;
      const expanded = await withTransaction(database, (sql) => expandOutbox(sql, rows));
      if (!expanded || expanded.taken === 0) return;
      const nowMs = performance.now();
      nextExpansionAtMs = nowMs + throttle.computePause(expanded.made);
      if (nowMs < expandUntilMs) continue;
      // The outbox may be large: check for due deliveries before continuing.
      isCheckRequested = true;
      return;
    }
  }

  function startWorker(endpoint: leases.Endpoint): void {
    const running = workers.get(endpoint.id);
    // This instance's lease had expired, and it has claimed the endpoint again.
    if (running) running.endpoint.fence = endpoint.fence;
    else workers.set(endpoint.id, createWorker(endpoint));
    workers.get(endpoint.id)?.nudge();
  }

  function createWorker(endpoint: leases.Endpoint): EndpointWorker {
    return createEndpointWorker(endpoint, {
      load: (endpoint, loadedIds, rows) => loadDue(database, instanceId, endpoint, loadedIds, rows),
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

  /** Makes the longest-served endpoints yield their slots to waiting ones, because they may have work for days. */
  function yieldSlots(count: number): void {
    for (const worker of [...workers.values()].slice(0, count)) worker.yieldSlot();
  }

  /** Releases leases. If that fails, they expire. */
  const release = (endpoints: leases.Endpoint[]): Promise<void> =>
    leases
      .releaseEndpoints(reserved(), instanceId, endpoints)
      .catch((err: unknown) => log.debug({ err }, "releasing webhook leases failed"));

  async function checkOnce(): Promise<void> {
    const work = await findWork(database);
    hasWebhooks = work.hasWebhooks;
    if (work.hasOutbox) await expand();
    if (!hasWebhooks || isStopping) return;
    const due = await leases.listDueEndpoints(database, instanceId);
    for (const { id } of due) workers.get(id)?.nudge();
    const free = due.filter(({ isFree }) => isFree).map(({ id }) => id);
    const slots = endpointsMax - workers.size;
    if (free.length > slots) yieldSlots(free.length - slots);
    if (free.length === 0 || slots <= 0) return;
    const claimed = await leases.claimEndpoints(reserved(), instanceId, free.slice(0, slots));
    if (isStopping) await release(claimed);
    else for (const endpoint of claimed) startWorker(endpoint);
  }

  /** Repeats checks that are requested while one is running. */
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

  /** Schedules a check. Call it when there may be new work. */
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
     * Checks for due work. Only one check runs at a time. Must be polled, because only this finds deliveries that
     * become due by time or because of other instances.
     */
    check,

    checkSoon,

    /** Call this after each event. Schedules a check if there are webhooks. */
    nudge(): void {
      if (!hasWebhooks) return;
      throttle.countEvent();
      checkSoon();
    },

    /** Renews this instance's leases. Call it several times per lease duration. */
    async renew(): Promise<void> {
      const endpoints = [...workers.values()].map(({ endpoint }) => endpoint);
      if (endpoints.length > 0) await leases.renewEndpoints(reserved(), instanceId, endpoints);
    },

    /** Stops starting deliveries, lets in-flight requests finish, and releases the endpoints. */
    async stop(deadlineMs: number): Promise<void> {
      isStopping = true;
      clearTimeout(timer);
      await checking?.catch(() => {});
      const running = [...workers.values()];
      const abortAtMs = Math.min(deadlineMs - STORING_MS_MAX, Date.now() + DRAIN_MS_MAX);
      await Promise.all([
        ...running.map((worker) => worker.stop(abortAtMs)),
        results.stop(Math.max(abortAtMs, Date.now()) + STORING_MS_MAX),
      ]);
      if (running.length > 0) await release(running.map(({ endpoint }) => endpoint));
    },
  };
}

export type WebhookDispatcher = ReturnType<typeof createWebhookDispatcher>;
