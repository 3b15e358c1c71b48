import { type Database, withTransaction } from "../../../db/client.ts";
import { retryTemporary } from "../../../db/retry.ts";
import { abortable } from "../../../lib/abortable.ts";
import type { Log } from "../../../lib/log.ts";
import type { Metrics } from "../../../lib/metrics.ts";
import type { AuditService } from "../../audit/service.ts";
import type { EndpointResult } from "./results.ts";
import * as queries from "./results.ts";

/** Maximum results stored per transaction. */
const BATCH_MAX = 500;
/** How long to wait for more results, to store them together. */
const WAIT_MS = 10;
/** Delay after storing results has failed. */
const STORE_FAILURE_DELAY_MS = 2_000;

type Dependencies = {
  database: Database;
  audit: Pick<AuditService, "record">;
  metrics: Pick<Metrics, "webhookDeliveries">;
  log: Log;
  instanceId: string;
};

type Entry = { result: EndpointResult; done(): void };

/** Stores the results of all endpoints in batches. Deliveries whose results can't be stored are repeated. */
export function createResultWriter({ database, audit, metrics, log, instanceId }: Dependencies) {
  const abortController = new AbortController();
  const queue: Entry[] = [];
  let writing: Promise<void> | undefined;

  async function store(results: EndpointResult[]): Promise<string[]> {
    return withTransaction(database, async (sql) => {
      const statusChanges = results.filter(({ disables, pauseMs }) => disables !== null || pauseMs !== null);
      if (statusChanges.length > 0)
        await queries.lockWebhooksById(sql, [...new Set(statusChanges.map(({ endpoint }) => endpoint.id))]);
      await queries.storeResults(sql, instanceId, results);
      const disabled: string[] = [];
      for (const { endpoint, disables, pauseMs } of statusChanges) {
        if (pauseMs !== null) await queries.pauseWebhook(sql, endpoint.id, pauseMs);
        if (disables !== null && (await queries.disableAutomatically(sql, audit, endpoint.id, disables)))
          disabled.push(endpoint.id);
      }
      return disabled;
    });
  }

  async function writeBatch(entries: Entry[]): Promise<void> {
    const results = entries.map(({ result }) => result);
    try {
      const disabled = await retryTemporary(() => store(results), abortController.signal);
      for (const id of disabled)
        log.warn({ webhook_id: id }, "webhook disabled: its receiver does not accept deliveries");
      for (const { outcome } of results) metrics.webhookDeliveries.inc({ outcome });
    } catch (error) {
      log.warn({ err: error, deliveries: results.length }, "storing webhook delivery results failed");
      // Pauses to avoid a tight loop, because these deliveries are repeated.
      await abortable(Bun.sleep(STORE_FAILURE_DELAY_MS), abortController.signal).catch(() => {});
    }
    for (const { done } of entries) done();
  }

  async function writeQueue(): Promise<void> {
    await Bun.sleep(WAIT_MS);
    while (queue.length > 0) await writeBatch(queue.splice(0, BATCH_MAX));
    writing = undefined;
  }

  return {
    /** Queues a result. @param done called when the result was stored or dropped. */
    add(result: EndpointResult, done: () => void): void {
      queue.push({ result, done });
      writing ??= writeQueue();
    },

    /**
     * Resolves when all results are stored.
     * @param deadlineMs when to drop results that can't be stored, in milliseconds since 1970.
     */
    async stop(deadlineMs: number): Promise<void> {
      // The timer isn't cleared when everything is stored, because results of in-flight requests may follow.
      setTimeout(
        () => abortController.abort(new Error("The instance is shutting down.")),
        Math.max(0, deadlineMs - Date.now()),
      ).unref();
      while (writing) await writing;
    },
  };
}

export type ResultWriter = ReturnType<typeof createResultWriter>;
