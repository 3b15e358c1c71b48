import type { Jobs } from "../../jobs/runner.ts";
import type { GenerationService } from "./service.ts";

const PIECES_MS = 500;
/** Also how soon an answer stops after its conversation or its requester was deleted on another instance. */
const LEASE_RENEWAL_MS = 500;
const ORPHAN_SWEEP_MS = 2_000;
const DELETION_MS = 5 * 60_000;

type Generations = Pick<GenerationService, "storePieces" | "renewLeases" | "takeOverOrphans" | "deleteFinished">;

/**
 * Each instance renews the leases of the answers that it writes, and takes over dead instances' answers while it has
 * free slots.
 */
export function registerGenerationJobs(jobs: Jobs, { generations }: { generations: Generations }): void {
  jobs.everyOnEach("pieces", PIECES_MS, generations.storePieces);
  jobs.everyOnEach("leases", LEASE_RENEWAL_MS, generations.renewLeases);
  jobs.everyOnEach("orphans", ORPHAN_SWEEP_MS, generations.takeOverOrphans);
  jobs.everyOnOne("finished-generations", DELETION_MS, generations.deleteFinished);
}
