import type { Jobs } from "../../jobs/runner.ts";
import type { GenerationService } from "./service.ts";

const PIECES_MS = 500;
/** Also the time after which an answer stops when its conversation or its requester was deleted on another instance. */
const LEASE_RENEWAL_MS = 500;
const ORPHAN_SWEEP_MS = 2_000;
const FORGET_MS = 5 * 60_000;

type Generations = Pick<GenerationService, "storePieces" | "renewLeases" | "takeOrphans" | "forgetFinished">;

/** Each instance renews the answers that it writes, and takes over as many answers of dead instances as it has room for. */
export function registerGenerationJobs(jobs: Jobs, { generations }: { generations: Generations }): void {
  jobs.everyOnEach("pieces", PIECES_MS, generations.storePieces);
  jobs.everyOnEach("leases", LEASE_RENEWAL_MS, generations.renewLeases);
  jobs.everyOnEach("orphans", ORPHAN_SWEEP_MS, generations.takeOrphans);
  jobs.everyOnOne("finished-generations", FORGET_MS, generations.forgetFinished);
}
