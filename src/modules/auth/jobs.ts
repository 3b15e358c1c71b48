import type { Jobs } from "../../jobs/runner.ts";
import { repeatUntilDone } from "../../lib/batches.ts";
import type { AuthService } from "./service.ts";

const SWEEP_INTERVAL_MS = 5 * 60_000;

export function registerAuthJobs(jobs: Jobs, { auth }: { auth: Pick<AuthService, "deleteExpired"> }): void {
  const sweep = async () => {
    const { sessions, tickets } = await auth.deleteExpired();
    return sessions + tickets;
  };
  jobs.scheduleOnOneInstance(
    "sessions",
    SWEEP_INTERVAL_MS,
    async (signal) => void (await repeatUntilDone(sweep, signal)),
  );
}
