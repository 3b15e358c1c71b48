import type { Database } from "../../../db/client.ts";
import type { Jobs } from "../../../jobs/runner.ts";
import type { WebhookDispatcher } from "./dispatcher.ts";
import { hasDeliveriesToFail } from "./results.ts";
import { deleteOldDeliveries, failAllDeliveries } from "./retention.ts";

/** Interval between checks for deliveries that have become due, or were added by other instances. */
const CHECK_INTERVAL_MS = 500;
const LEASE_RENEWAL_INTERVAL_MS = 3_000;
const ABANDON_INTERVAL_MS = 2_000;
const RETENTION_SWEEP_INTERVAL_MS = 10 * 60_000;

type Services = { dispatcher: Pick<WebhookDispatcher, "check" | "renew">; database: Database };

export function registerDeliveryJobs(jobs: Jobs, { dispatcher, database }: Services): void {
  jobs.scheduleOnEachInstance("webhooks", CHECK_INTERVAL_MS, dispatcher.check);
  jobs.scheduleOnEachInstance("leases of webhooks", LEASE_RENEWAL_INTERVAL_MS, dispatcher.renew);
  jobs.scheduleOnOneInstance(
    "deliveries of disabled webhooks",
    ABANDON_INTERVAL_MS,
    (signal) => failAllDeliveries(database, signal),
    () => hasDeliveriesToFail(database),
  );
  jobs.scheduleOnOneInstance("old webhook deliveries", RETENTION_SWEEP_INTERVAL_MS, (signal) =>
    deleteOldDeliveries(database, signal),
  );
}
