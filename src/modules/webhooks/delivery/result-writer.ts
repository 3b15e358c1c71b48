import { type Database, withTransaction } from "../../../db/client.ts";
import { retryTemporary } from "../../../db/retry.ts";
import { abortable } from "../../../lib/abortable.ts";
import type { Log } from "../../../lib/log.ts";
import type { Metrics } from "../../../lib/metrics.ts";
import type { AuditService } from "../../audit/service.ts";
import type { EndpointResult } from "./results.ts";
import * as queries from "./results.ts";

/** Maximum number of results stored per transaction. */
const BATCH_RESULTS_MAX = 500;
/** Delay before storing a result, to store it together with results that follow. */
const COLLECT_MS = 10;
/** Delay after results could not be stored. */
const STORE_FAILURE_DELAY_MS = 2_000;

type Dependencies = {
  database: Database;
  audit: Pick<AuditService, "record">;
  metrics: Pick<Metrics, "webhookDeliveries">;
  log: Log;
  instanceId: string;
};

type QueuedResult = { result: EndpointResult; onDone(): void };

/**
 * Creates a writer that stores the results of all endpoints in batches. If a result can't be stored, its delivery is repeated.
 */
export function createResultWriter({ database, audit, metrics, log, instanceId }: Dependencies) {
  const abortController = new AbortController();
  const queue: QueuedResult[] = [];
  let runningWrite: Promise<void> | undefined;

  /** Stores results. Returns the ids of the webhooks that were disabled because of them. */
  async function storeBatch(results: EndpointResult[]): Promise<string[]> {
    return withTransaction(database, async (sql) => {
      const statusChanges = results.filter(({ disableReason, pauseMs }) => disableReason !== null || pauseMs !== null);
      if (statusChanges.length > 0)
        await queries.lockWebhooksById(sql, [...new Set(statusChanges.map(({ endpoint }) => endpoint.id))]);
      await queries.storeResults(sql, instanceId, results);
      const disabledIds: string[] = [];
      for (const { endpoint, disableReason, pauseMs } of statusChanges) {
        if (pauseMs !== null) await queries.pauseWebhook(sql, endpoint.id, pauseMs);
        if (disableReason !== null && (await queries.disableAutomatically(sql, audit, endpoint.id, disableReason)))
          disabledIds.push(endpoint.id);
      }
      return disabledIds;
    });
  }

  async function writeBatch(entries: QueuedResult[]): Promise<void> {
    const results = entries.map(({ result }) => result);
    try {
      const disabledIds = await retryTemporary(() => storeBatch(results), abortController.signal);
      for (const id of disabledIds)
        log.warn({ webhook_id: id }, "webhook disabled: its receiver does not accept deliveries");
      for (const { outcome } of results) metrics.webhookDeliveries.inc({ outcome });
    } catch (error) {
      log.warn({ err: error, deliveries: results.length }, "storing webhook delivery results failed");
      // These deliveries are repeated, so the delay avoids a tight loop.
      await abortable(Bun.sleep(STORE_FAILURE_DELAY_MS), abortController.signal).catch(() => {});
    }
    for (const { onDone } of entries) onDone();
  }

  async function writeQueue(): Promise<void> {
    await Bun.sleep(COLLECT_MS);
    while (queue.length > 0) await writeBatch(queue.splice(0, BATCH_RESULTS_MAX));
    runningWrite = undefined;
  }

  return {
    /** Queues a result. @param onDone called when the result was stored or dropped. */
    add(result: EndpointResult, onDone: () => void): void {
      queue.push({ result, onDone });
      runningWrite ??= writeQueue();
    },

    /**
     * Resolves when all results are stored.
     * @param deadlineMs the time (since 1970) at which to drop results that can't be stored.
     */
    async stop(deadlineMs: number): Promise<void> {
      // The timer isn't cleared, because in-flight requests may add results later.
      setTimeout(
        () => abortController.abort(new Error("The instance is shutting down.")),
        Math.max(0, deadlineMs - Date.now()),
      ).unref();
      while (runningWrite) await runningWrite;
    },
  };
}

export type ResultWriter = ReturnType<typeof createResultWriter>;
