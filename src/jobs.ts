import { gatherStatistics } from "./db/statistics.ts";
import { createJobRunner } from "./jobs/runner.ts";
import type { Drainable } from "./lib/lifecycle.ts";
import type { ServiceDependencies, Services } from "./services.ts";

const SOCKET_SWEEP_MS = 1_000;
const PIECES_MS = 500;
const LEASE_RENEWAL_MS = 1_000;
const ORPHAN_SWEEP_MS = 2_000;
/** Who has just been let in by what is remembered for a second must still go within two. */
const ENDED_SESSIONS_MS = 500;
/** Looks back further than the interval: a commit may come late. */
const ENDED_SESSIONS_WITHIN_MS = 15_000;
const BUDGET_SWEEP_MS = 10_000;
const DELETION_SWEEP_MS = 5_000;
const ERASURE_MS = 1_000;
const STATISTICS_MS = 2_000;
const ACCOUNT_SWEEP_MS = 5 * 60_000;
const IDEMPOTENCY_RENEWAL_MS = 10_000;
const IDEMPOTENCY_SWEEP_MS = 60_000;

/** Starts what an instance does by itself once its database is ready. @returns what has to be stopped, in order. */
export async function startJobs(
  services: Services,
  { config, database, log }: ServiceDependencies,
): Promise<Drainable[]> {
  const {
    users,
    auth,
    apiKeys,
    documents,
    generations,
    sockets,
    streams,
    budgets,
    completions,
    followUps,
    mcpServers,
    idempotency,
    auditLog,
    deletions,
    limits,
    messages,
    changes,
    erasures,
  } = services;
  const stopping = new AbortController();
  await users.ensureFirstAdministrator(config);
  await documents.start(stopping.signal);

  const jobs = createJobRunner({ log });
  jobs.every("sockets", SOCKET_SWEEP_MS, async () => sockets.sweep());
  jobs.every("pieces", PIECES_MS, generations.storePieces);
  jobs.every("leases", LEASE_RENEWAL_MS, generations.renewLeases);
  jobs.every("orphans", ORPHAN_SWEEP_MS, generations.takeOrphans);
  jobs.every("ended-sessions", ENDED_SESSIONS_MS, async () => {
    // Ended by another instance, or on the command line: their sockets and streams here must go as well.
    if (sockets.count() + streams.count() === 0) return;
    const ended = (await auth.findEndedSessions(ENDED_SESSIONS_WITHIN_MS)).map(({ id }) => id);
    sockets.endCredentials(ended);
    streams.endCredentials(ended);
    const lockedOut = await apiKeys.findEnded([...sockets.listKeyCallers(), ...streams.listKeyCallers()]);
    sockets.endCallers(lockedOut);
    streams.endCallers(lockedOut);
  });
  jobs.every("budgets", BUDGET_SWEEP_MS, budgets.sweep);
  jobs.every("deletions", DELETION_SWEEP_MS, deletions.resume);
  jobs.every("statistics", STATISTICS_MS, async () => void (await gatherStatistics(database)));
  jobs.every("erasures", ERASURE_MS, erasures.run);
  jobs.every("accounts", ACCOUNT_SWEEP_MS, async () => {
    await auth.sweepAccounts();
    await apiKeys.sweep();
    await budgets.forget();
    await auditLog.sweep();
  });

  jobs.every("idempotency-leases", IDEMPOTENCY_RENEWAL_MS, idempotency.renew);
  jobs.every("idempotency-keys", IDEMPOTENCY_SWEEP_MS, async (signal) => {
    await idempotency.sweep(signal);
  });

  return [
    { name: "sockets", stop: sockets.drain },
    { name: "completions", stop: completions.drain },
    { name: "generations", stop: generations.drain },
    { name: "streams", stop: streams.drain },
    { name: "follow-ups", stop: followUps.stop },
    { name: "deletions", stop: deletions.stop },
    { name: "mcp", stop: mcpServers.close },
    { name: "documents", stop: async () => stopping.abort() },
    { name: "jobs", stop: jobs.stop },
    { name: "redis", stop: async () => limits.redis?.close() },
    { name: "lanes", stop: async () => void (await Promise.all([messages.close(), generations.close()])) },
    { name: "changes", stop: changes.close },
  ];
}
