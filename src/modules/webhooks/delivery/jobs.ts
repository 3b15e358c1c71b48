import type { Database } from "../../../db/client.ts";
import type { Jobs } from "../../../jobs/runner.ts";
import type { WebhookDispatcher } from "./dispatcher.ts";
import { hasAbandoned } from "./results.ts";
import { abandonAll, deleteOldDeliveries } from "./retention.ts";

/** Polling interval for deliveries that become due by time or because of other instances. */
const POLL_MS = 500;
const LEASE_RENEWAL_MS = 3_000;
const ABANDON_INTERVAL_MS = 2_000;
const RETENTION_SWEEP_MS = 10 * 60_000;

type Services = { dispatcher: Pick<WebhookDispatcher, "check" | "renew">; database: Database };

export function registerDeliveryJobs(jobs: Jobs, { dispatcher, database }: Services): void {
  jobs.everyOnEach("webhooks", POLL_MS, dispatcher.check);
  jobs.everyOnEach("leases of webhooks", LEASE_RENEWAL_MS, dispatcher.renew);
  jobs.everyOnOne(
    "deliveries of disabled webhooks",
    ABANDON_INTERVAL_MS,
    (signal) => abandonAll(database, signal),
    () => hasAbandoned(database),
  );
  jobs.everyOnOne("old webhook deliveries", RETENTION_SWEEP_MS, (signal) => deleteOldDeliveries(database, signal));
}
