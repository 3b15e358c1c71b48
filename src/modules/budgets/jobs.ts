import type { Jobs } from "../../jobs/runner.ts";
import { repeatUntilDone } from "../../lib/batches.ts";
import type { BudgetService } from "./service.ts";

const LEASE_RENEWAL_INTERVAL_MS = 10_000;
const RELEASE_INTERVAL_MS = 10_000;
const DELETION_INTERVAL_MS = 5 * 60_000;

type Budgets = Pick<BudgetService, "renew" | "releaseExpired" | "deleteOld">;

export function registerBudgetJobs(jobs: Jobs, { budgets }: { budgets: Budgets }): void {
  jobs.everyOnEach("reservation-leases", LEASE_RENEWAL_INTERVAL_MS, budgets.renew);
  jobs.everyOnOne("reservations", RELEASE_INTERVAL_MS, budgets.releaseExpired);
  jobs.everyOnOne(
    "budget-windows",
    DELETION_INTERVAL_MS,
    async (signal) => void (await repeatUntilDone(budgets.deleteOld, signal)),
  );
}
