import type { Database } from "../../../db/client.ts";
import type { Jobs } from "../../../jobs/runner.ts";
import type { WebhookDispatcher } from "./dispatcher.ts";
import { hasAbandoned } from "./results.ts";
import { abandonAll, forgetDeliveries } from "./retention.ts";

/** Polling interval for deliveries made due by other instances or by time. */
const POLL_MS = 500;
const RENEWAL_MS = 3_000;
const ABANDON_MS = 2_000;
const FORGET_MS = 10 * 60_000;

type Services = { dispatcher: Pick<WebhookDispatcher, "check" | "renew">; database: Database };

export function registerDeliveryJobs(jobs: Jobs, { dispatcher, database }: Services): void {
  jobs.everyOnEach("webhooks", POLL_MS, dispatcher.check);
  jobs.everyOnEach("leases of webhooks", RENEWAL_MS, dispatcher.renew);
  jobs.everyOnOne(
    "deliveries of disabled webhooks",
    ABANDON_MS,
    (signal) => abandonAll(database, signal),
    () => hasAbandoned(database),
  );
  jobs.everyOnOne("old webhook deliveries", FORGET_MS, (signal) => forgetDeliveries(database, signal));
}
