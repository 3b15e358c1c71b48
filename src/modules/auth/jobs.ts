import type { Jobs } from "../../jobs/runner.ts";
import { repeatUntilDone } from "../../lib/batches.ts";
import type { AuthService } from "./service.ts";

const SWEEP_MS = 5 * 60_000;

export function registerAuthJobs(jobs: Jobs, { auth }: { auth: Pick<AuthService, "sweepAccounts"> }): void {
  const sweep = async () => {
    const { sessions, tickets } = await auth.sweepAccounts();
    return sessions + tickets;
  };
  jobs.everyOnOne("sessions", SWEEP_MS, async (signal) => void (await repeatUntilDone(sweep, signal)));
}
