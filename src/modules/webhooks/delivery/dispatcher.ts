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
import { createPace } from "./pace.ts";
import { createResultWriter } from "./result-writer.ts";

/** After an event it is looked for more of them so long, so that they are handled together. */
const NUDGE_MS = 10;
/** Rows of the outbox that are expanded together: each may stand for hundreds of events. */
const OUTBOX_ROWS = 20;
/** So long the outbox is expanded before it is looked for what is due. */
const EXPANSION_MS = 200;
/** Endpoints that one instance delivers to at the same time. */
const ENDPOINTS_MAX = 256;
/** When an instance stops, requests in flight have so long to end; an end of their results comes on top. */
const IN_FLIGHT_MS_MAX = 5_000;
const STORING_MS_MAX = 2_000;
/** For a whole request. */
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
 * Delivers webhooks. Any instance makes deliveries of what the outbox holds, one at a time; one instance delivers to an
 * endpoint, as long as it renews its lease. What a dead one has not stored is delivered again, under the same `webhook-id`.
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
  const pace = createPace();
  const workers = new Map<string, EndpointWorker>();
  let hasWebhooks = false;
  let isStopping = false;
  let looking: Promise<void> | undefined;
  let isNudged = false;
  let expandAtMs = 0;
  let timer: Timer | undefined;

  async function expand(): Promise<void> {
    const untilMs = performance.now() + EXPANSION_MS;
    while (!isStopping && (performance.now() >= expandAtMs || !pace.isHeldBack())) {
      const rows = pace.isHeldBack() ? 1 : OUTBOX_ROWS;
      const expanded = await withTransaction(database, (sql) => expandOutbox(sql, rows));
      if (!expanded || expanded.taken === 0) return;
      const nowMs = performance.now();
      expandAtMs = nowMs + pace.findPause(expanded.made);
      if (nowMs < untilMs) continue;
      // There may be much of it, and what is due already doesn't wait for that.
      isNudged = true;
      return;
    }
  }

  function begin(endpoint: leases.Endpoint): void {
    const running = workers.get(endpoint.id);
    // The lease had run out, and nobody else was faster.
    if (running) running.endpoint.fence = endpoint.fence;
    else workers.set(endpoint.id, createWorker(endpoint));
    workers.get(endpoint.id)?.nudge();
  }

  function createWorker(endpoint: leases.Endpoint): EndpointWorker {
    return createEndpointWorker(endpoint, {
      load: (endpoint, heldIds, rows) => loadDue(database, instanceId, endpoint, heldIds, rows),
      attempt,
      results,
      pace,
      onError: (err) => log.warn({ err, webhook_id: endpoint.id }, "webhook deliveries could not be read"),
      onEnd() {
        workers.delete(endpoint.id);
        void release([endpoint]);
      },
    });
  }

  /** Those that were served longest give their places to endpoints that wait: they may have enough to do for days. */
  function makeRoom(count: number): void {
    for (const worker of [...workers.values()].slice(0, count)) worker.giveWay();
  }

  /** If it fails, the lease runs out. */
  const release = (endpoints: leases.Endpoint[]): Promise<void> =>
    leases
      .releaseEndpoints(reserved(), instanceId, endpoints)
      .catch((err: unknown) => log.debug({ err }, "leases of webhooks are not released"));

  async function look(): Promise<void> {
    const work = await findWork(database);
    hasWebhooks = work.hasWebhooks;
    if (work.hasOutbox) await expand();
    if (!hasWebhooks || isStopping) return;
    const due = await leases.listDueEndpoints(database, instanceId);
    for (const { id } of due) workers.get(id)?.nudge();
    const free = due.filter(({ isFree }) => isFree).map(({ id }) => id);
    const places = endpointsMax - workers.size;
    if (free.length > places) makeRoom(free.length - places);
    if (free.length === 0 || places <= 0) return;
    const claimed = await leases.claimEndpoints(reserved(), instanceId, free.slice(0, places));
    if (isStopping) await release(claimed);
    else for (const endpoint of claimed) begin(endpoint);
  }

  /** One look at a time; a nudge during a look is a reason for the next one. */
  async function lookAgain(): Promise<void> {
    do {
      isNudged = false;
      await look();
    } while (isNudged && !isStopping);
  }

  function run(): Promise<void> {
    looking ??= lookAgain().finally(() => {
      looking = undefined;
    });
    return looking;
  }

  /** There is something to do, or a webhook for which there may be. */
  function lookSoon(): void {
    if (isStopping) return;
    isNudged = true;
    if (looking) return;
    timer ??= setTimeout(
      () => {
        timer = undefined;
        run().catch((err) => log.debug({ err }, "webhooks could not be looked at"));
      },
      Math.max(NUDGE_MS, expandAtMs - performance.now()),
    );
  }

  return {
    /** Looks for something to do. Call it often: what other instances and clocks make due is found only so. */
    look: run,

    lookSoon,

    /** The same after an event: it costs nothing while there are no webhooks. */
    nudge(): void {
      if (!hasWebhooks) return;
      pace.countEvent();
      lookSoon();
    },

    /** Keeps the endpoints of this instance; call it several times within a lease. */
    async renew(): Promise<void> {
      const held = [...workers.values()].map(({ endpoint }) => endpoint);
      if (held.length > 0) await leases.renewEndpoints(reserved(), instanceId, held);
    },

    /** Begins nothing more, lets what is in flight end, and hands the endpoints over. */
    async stop(deadlineMs: number): Promise<void> {
      isStopping = true;
      clearTimeout(timer);
      await looking?.catch(() => {});
      const held = [...workers.values()];
      const cutMs = Math.min(deadlineMs - STORING_MS_MAX, Date.now() + IN_FLIGHT_MS_MAX);
      await Promise.all([
        ...held.map((worker) => worker.stop(cutMs)),
        results.stop(Math.max(cutMs, Date.now()) + STORING_MS_MAX),
      ]);
      if (held.length > 0) await release(held.map(({ endpoint }) => endpoint));
    },
  };
}

export type WebhookDispatcher = ReturnType<typeof createWebhookDispatcher>;
