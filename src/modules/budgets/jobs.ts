import type { Jobs } from "../../jobs/runner.ts";
import { repeatUntilDone } from "../../lib/batches.ts";
import type { BudgetService } from "./service.ts";

const LEASE_RENEWAL_MS = 10_000;
const FREE_MS = 10_000;
const WINDOWS_MS = 5 * 60_000;

type Budgets = Pick<BudgetService, "renew" | "free" | "deleteOld">;

export function registerBudgetJobs(jobs: Jobs, { budgets }: { budgets: Budgets }): void {
  jobs.everyOnEach("reservation-leases", LEASE_RENEWAL_MS, budgets.renew);
  jobs.everyOnOne("reservations", FREE_MS, budgets.free);
  jobs.everyOnOne(
    "budget-windows",
    WINDOWS_MS,
    async (signal) => void (await repeatUntilDone(budgets.deleteOld, signal)),
  );
}
