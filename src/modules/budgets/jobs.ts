import type { Jobs } from "../../jobs/runner.ts";
import { repeatUntilDone } from "../../lib/batches.ts";
import type { BudgetService } from "./service.ts";

const LEASE_RENEWAL_INTERVAL_MS = 10_000;
const RELEASE_INTERVAL_MS = 10_000;
const DELETION_INTERVAL_MS = 5 * 60_000;

type Budgets = Pick<BudgetService, "renewLeases" | "releaseExpired" | "deleteOldUsage">;

export function registerBudgetJobs(jobs: Jobs, { budgets }: { budgets: Budgets }): void {
  jobs.scheduleOnEachInstance("reservation-leases", LEASE_RENEWAL_INTERVAL_MS, budgets.renewLeases);
  jobs.scheduleOnOneInstance("reservations", RELEASE_INTERVAL_MS, budgets.releaseExpired);
  jobs.scheduleOnOneInstance(
    "budget-windows",
    DELETION_INTERVAL_MS,
    async (signal) => void (await repeatUntilDone(budgets.deleteOldUsage, signal)),
  );
}
