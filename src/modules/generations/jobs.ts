import type { Jobs } from "../../jobs/runner.ts";
import type { GenerationService } from "./service.ts";

const PIECES_MS = 500;
/** Also how soon an answer stops whose conversation, or whose asker, was deleted on another instance. */
const LEASE_RENEWAL_MS = 500;
const ORPHAN_SWEEP_MS = 2_000;
const FORGET_MS = 5 * 60_000;

type Generations = Pick<GenerationService, "storePieces" | "renewLeases" | "takeOrphans" | "forgetFinished">;

/** Each instance looks after the answers that it writes, and takes as many of those of a dead one as it has room for. */
export function registerGenerationJobs(jobs: Jobs, { generations }: { generations: Generations }): void {
  jobs.everyOnEach("pieces", PIECES_MS, generations.storePieces);
  jobs.everyOnEach("leases", LEASE_RENEWAL_MS, generations.renewLeases);
  jobs.everyOnEach("orphans", ORPHAN_SWEEP_MS, generations.takeOrphans);
  jobs.everyOnOne("finished-generations", FORGET_MS, generations.forgetFinished);
}
