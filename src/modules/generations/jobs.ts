import type { Jobs } from "../../jobs/runner.ts";
import type { GenerationService } from "./service.ts";

const PIECES_INTERVAL_MS = 500;
/** An answer stops within this time after another instance deletes its conversation or its requester. */
const LEASE_RENEWAL_INTERVAL_MS = 500;
const TAKEOVER_INTERVAL_MS = 2_000;
const DELETION_INTERVAL_MS = 5 * 60_000;

type Generations = Pick<GenerationService, "storePieces" | "renewLeases" | "takeOverOrphans" | "deleteFinished">;

/** Registers the jobs. Each instance renews its own leases, and takes over crashed instances' answers while it has free slots. */
export function registerGenerationJobs(jobs: Jobs, { generations }: { generations: Generations }): void {
  jobs.scheduleOnEachInstance("pieces", PIECES_INTERVAL_MS, generations.storePieces);
  jobs.scheduleOnEachInstance("leases", LEASE_RENEWAL_INTERVAL_MS, generations.renewLeases);
  jobs.scheduleOnEachInstance("orphans", TAKEOVER_INTERVAL_MS, generations.takeOverOrphans);
  jobs.scheduleOnOneInstance("finished-generations", DELETION_INTERVAL_MS, generations.deleteFinished);
}
