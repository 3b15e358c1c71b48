import { BoundedCache } from "../../cache/bounded-cache.ts";
import { type Database, withTransaction } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import * as queries from "./queries.ts";
import type { BudgetLimits } from "./rules.ts";

/** The maximum number of recently notified payers to remember, so that their further rejected requests need no query. */
const NOTIFIED_PAYERS_MAX = 10_000;
const NOTIFIED_TTL_MS = 60_000;

type Dependencies = { database: Database; log: Log; limits: { user: BudgetLimits | null; key: BudgetLimits | null } };

/** Creates a function that notifies webhooks of exceeded budgets, once per payer and window. */
export function createExceededNotifier({ database, log, limits }: Dependencies) {
  const notifiedPayers = new BoundedCache<true>({ maxSize: NOTIFIED_PAYERS_MAX, ttlMs: NOTIFIED_TTL_MS });

  /**
   * Runs in the background, because the rejected transaction may lock the window until it ends. If the notification fails, it is retried
   * when the next request is rejected.
   */
  return function notifyExceeded(payer: queries.Payer, period: queries.Period): void {
    const key = `${payer.userId} ${payer.keyId} ${period}`;
    if (notifiedPayers.get(key)) return;
    notifiedPayers.set(key, true);
    const at = new Date();
    withTransaction(
      database,
      (sql) => queries.emitExceeded(sql, payer, period, at, limits),
      `payer:${payer.userId}`,
    ).catch((error) => {
      notifiedPayers.delete(key);
      log.warn({ err: error, user_id: payer.userId }, "notifying webhooks of an exceeded budget failed");
    });
  };
}
