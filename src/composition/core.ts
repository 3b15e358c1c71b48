import type { Config } from "../config.ts";
import { createChanges } from "../db/changes.ts";
import type { Database } from "../db/client.ts";
import { createEventLog } from "../events/log.ts";
import { createJobs } from "../jobs/runner.ts";
import { createId } from "../lib/id.ts";
import type { Lifecycle } from "../lib/lifecycle.ts";
import type { Log } from "../lib/log.ts";
import type { Metrics } from "../lib/metrics.ts";
import { createParts } from "../lib/parts.ts";
import { createLimits } from "../limits/limits.ts";
import { countUnfinished, createLiveAnswers } from "../modules/generations/service.ts";
import type { PasswordOptions } from "../modules/users/passwords.ts";
import type { Bus } from "../realtime/bus.ts";
import { createMemoryBus } from "../realtime/bus-memory.ts";

export type ServiceDependencies = {
  config: Config;
  database: Database;
  log: Log;
  metrics: Metrics;
  lifecycle: Lifecycle;
  jwtSecret: string;
  /** How instances hear from each other; without it, this one is alone. */
  bus?: Bus;
  /** What a hash costs; without it, what is right for people. */
  passwords?: PasswordOptions;
};

/** The longest time that load balancers are given to notice. */
const UNREADY_MS_MAX = 5_000;

/** What everything else stands on: the database with its log of events, the bus, the jobs, the limits. */
export function createCore(deps: ServiceDependencies) {
  const { config, database, log, metrics, lifecycle } = deps;
  const parts = createParts();
  // Load balancers have to notice first that this instance is not ready any more.
  const unreadyMs = config.APP_ENV === "production" ? Math.min(UNREADY_MS_MAX, config.SHUTDOWN_TIMEOUT_MS / 5) : 0;
  parts.add({ name: "readiness", stop: () => Bun.sleep(unreadyMs) });

  const instanceId = createId();
  const bus = deps.bus ?? createMemoryBus({ log });
  const jobs = createJobs({ database, log, instanceId });
  parts.add({ name: "jobs", after: ["generations", "completions", "follow-ups"], stop: jobs.stop });
  const changes = createChanges(database);
  const events = createEventLog({ database, changes, bus });
  // Before all that asks about answers in progress; the generation service, which writes them, comes late.
  const liveAnswers = createLiveAnswers({ lifecycle, instanceId });
  const limits = createLimits({ config, log, metrics, countStored: (userId) => countUnfinished(database, userId) });
  parts.add({ name: "redis", after: ["http"], stop: async () => limits.redis?.close() });

  return { ...deps, parts, instanceId, bus, jobs, changes, events, limits, liveAnswers };
}

export type Core = ReturnType<typeof createCore>;
