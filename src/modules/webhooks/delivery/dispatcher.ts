import { type Database, getReservedPool, withTransaction } from "../../../db/client.ts";
import type { Log } from "../../../lib/log.ts";
import type { Metrics } from "../../../lib/metrics.ts";
import type { AuditService } from "../../audit/service.ts";
import type { WebhookSecrets } from "../secrets.ts";
import { createAttempt, type SendOutgoing } from "./attempt.ts";
import { loadDue } from "./due.ts";
import { createEndpointWorker, type EndpointWorker } from "./endpoint-worker.ts";
import * as leases from "./leases.ts";
import { expandOutbox, findWork } from "./outbox.ts";
import { createResultWriter } from "./result-writer.ts";
import { createDeliveryThrottle } from "./throttle.ts";

/** How long to collect more events after the first one, to handle them together. */
const NUDGE_MS = 10;
/** Outbox rows expanded together: each may represent hundreds of events. */
const OUTBOX_ROWS = 20;
/** How long the outbox is expanded before due deliveries are checked again. */
const EXPANSION_MS = 200;
/** Endpoints that one instance delivers to concurrently. */
const ENDPOINTS_MAX = 256;
/** At shutdown, how long requests in flight may take; storing their results comes on top. */
const IN_FLIGHT_MS_MAX = 5_000;
const STORING_MS_MAX = 2_000;
/** Timeout of a whole request. */
const TIMEOUT_MS = 15_000;

type Dependencies = {
  database: Database;
  audit: Pick<AuditService, "record">;
  metrics: Pick<Metrics, "webhookDeliveries">;
  log: Log;
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
 * that holds its lease. Results that a dead instance didn't store are delivered again, with the same `webhook-id`.
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
  let isNudged = false;
  let expandAtMs = 0;
  let timer: Timer | undefined;

  async function expand(): Promise<void> {
    const untilMs = performance.now() + EXPANSION_MS;
    while (!isStopping && (performance.now() >= expandAtMs || !throttle.isThrottled())) {
      const rows = throttle.isThrottled() ? 1 : OUTBOX_ROWS;
      const expanded = await withTransaction(database, (sql) => expandOutbox(sql, rows));
      if (!expanded || expanded.taken === 0) return;
      const nowMs = performance.now();
      expandAtMs = nowMs + throttle.findPause(expanded.made);
      if (nowMs < untilMs) continue;
      // The outbox may be large, and due deliveries must not wait for it.
      isNudged = true;
      return;
    }
  }

  function begin(endpoint: leases.Endpoint): void {
    const running = workers.get(endpoint.id);
    // The lease had expired, but no other instance took it.
    if (running) running.endpoint.fence = endpoint.fence;
    else workers.set(endpoint.id, createWorker(endpoint));
    workers.get(endpoint.id)?.nudge();
  }

  function createWorker(endpoint: leases.Endpoint): EndpointWorker {
    return createEndpointWorker(endpoint, {
      load: (endpoint, heldIds, rows) => loadDue(database, instanceId, endpoint, heldIds, rows),
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

  /** The longest-served endpoints make room for waiting ones: they may have work for days. */
  function makeRoom(count: number): void {
    for (const worker of [...workers.values()].slice(0, count)) worker.yieldSlot();
  }

  /** If it fails, the lease expires. */
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
    if (free.length > slots) makeRoom(free.length - slots);
    if (free.length === 0 || slots <= 0) return;
    const claimed = await leases.claimEndpoints(reserved(), instanceId, free.slice(0, slots));
    if (isStopping) await release(claimed);
    else for (const endpoint of claimed) begin(endpoint);
  }

  /** One check at a time; a nudge during a check triggers the next one. */
  async function checkUntilIdle(): Promise<void> {
    do {
      isNudged = false;
      await checkOnce();
    } while (isNudged && !isStopping);
  }

  function run(): Promise<void> {
    checking ??= checkUntilIdle().finally(() => {
      checking = undefined;
    });
    return checking;
  }

  /** There may be new work, or a newly due webhook. */
  function checkSoon(): void {
    if (isStopping) return;
    isNudged = true;
    if (checking) return;
    timer ??= setTimeout(
      () => {
        timer = undefined;
        run().catch((err) => log.debug({ err }, "checking for due webhooks failed"));
      },
      Math.max(NUDGE_MS, expandAtMs - performance.now()),
    );
  }

  return {
    /** Checks for due work. Call it often: deliveries made due by other instances or by time are only found this way. */
    check: run,

    checkSoon,

    /** The same after an event; free while there are no webhooks. */
    nudge(): void {
      if (!hasWebhooks) return;
      throttle.countEvent();
      checkSoon();
    },

    /** Renews this instance's leases; call it several times per lease. */
    async renew(): Promise<void> {
      const held = [...workers.values()].map(({ endpoint }) => endpoint);
      if (held.length > 0) await leases.renewEndpoints(reserved(), instanceId, held);
    },

    /** Starts nothing new, lets requests in flight finish, and hands the endpoints over. */
    async stop(deadlineMs: number): Promise<void> {
      isStopping = true;
      clearTimeout(timer);
      await checking?.catch(() => {});
      const held = [...workers.values()];
      const abortAtMs = Math.min(deadlineMs - STORING_MS_MAX, Date.now() + IN_FLIGHT_MS_MAX);
      await Promise.all([
        ...held.map((worker) => worker.stop(abortAtMs)),
        results.stop(Math.max(abortAtMs, Date.now()) + STORING_MS_MAX),
      ]);
      if (held.length > 0) await release(held.map(({ endpoint }) => endpoint));
    },
  };
}

export type WebhookDispatcher = ReturnType<typeof createWebhookDispatcher>;
