import { createStreamRegistry } from "../access/open-streams.ts";
import type { Config } from "../config.ts";
import { createChangeRunner } from "../db/changes.ts";
import type { Database } from "../db/client.ts";
import { createEventLog } from "../events/log.ts";
import { createJobRunner } from "../jobs/runner.ts";
import { createId } from "../lib/id.ts";
import type { Lifecycle } from "../lib/lifecycle.ts";
import type { Log } from "../lib/log.ts";
import type { Metrics } from "../lib/metrics.ts";
import { createFetch } from "../lib/outgoing/create-fetch.ts";
import { createProxyFinder } from "../lib/outgoing/find-proxy.ts";
import { createShutdownComponents } from "../lib/shutdown-components.ts";
import type { Tracing } from "../lib/tracing/tracing.ts";
import { createLimits } from "../limits/limits.ts";
import { countUnfinished, createLiveAnswerRegistry } from "../modules/generations/service.ts";
import type { PasswordOptions } from "../modules/users/passwords.ts";
import type { Bus } from "../realtime/bus.ts";
import { createBus } from "./bus.ts";
import { createDeploymentName } from "./deployment.ts";
import { createReadCacheForBus } from "./reads.ts";

export type ServiceDependencies = {
  config: Config;
  database: Database;
  log: Log;
  metrics: Metrics;
  lifecycle: Lifecycle;
  jwtSecret: string;
  /** If undefined or null, tracing is off. */
  tracing?: Tracing | null;
  /** The message bus between instances. The default depends on the settings. */
  bus?: Bus;
  /** Whether no other instance can use this database. The default is true if it is embedded. */
  isAlone?: boolean;
  /** The cost of password hashes. Set only in tests. */
  passwords?: PasswordOptions;
};

/** Maximum time given to load balancers to notice that this instance is no longer ready. */
const UNREADY_MS_MAX = 5_000;

/** Creates the services that all modules need, such as the event log, the bus, the jobs and the limits. */
export function createCoreServices(deps: ServiceDependencies) {
  const { config, database, log, metrics, lifecycle } = deps;
  const components = createShutdownComponents();
  // Requests are served until load balancers have noticed that this instance is no longer ready.
  const unreadyMs = config.APP_ENV !== "development" ? Math.min(UNREADY_MS_MAX, config.SHUTDOWN_TIMEOUT_MS / 5) : 0;
  components.add({ name: "readiness", stop: () => Bun.sleep(unreadyMs).then(lifecycle.markDraining) });

  const instanceId = createId();
  const bus = deps.bus ?? createBus(deps, instanceId);
  components.add({ name: "bus", after: ["http", "sockets", "generations"], stop: bus.close });
  const jobs = createJobRunner({ database, log, instanceId });
  components.add({ name: "jobs", after: ["generations", "completions", "follow-ups"], stop: jobs.stop });
  const isAlone = deps.isAlone ?? config.DATABASE_URL === undefined;
  const reads = createReadCacheForBus({ isOn: config.READ_CACHE === "on", isAlone, bus, metrics });
  const changes = createChangeRunner(database);
  const events = createEventLog({ database, changes, bus });
  // Created early, because some modules need it before the generation service exists.
  const liveAnswers = createLiveAnswerRegistry({ lifecycle, instanceId });
  const deployment = createDeploymentName(deps.jwtSecret);
  const countStoredAnswers = (userId: string) => countUnfinished(database, userId);
  const limits = createLimits({ config, deployment, log, metrics, countStoredAnswers });
  components.add({ name: "redis", after: ["http"], stop: async () => limits.redis?.close() });

  const openStreams = createStreamRegistry();
  const findProxy = createProxyFinder(config);
  const fetch = createFetch(findProxy);

  return {
    ...deps,
    tracing: deps.tracing ?? null,
    openStreams,
    findProxy,
    fetch,
    components,
    instanceId,
    bus,
    reads,
    jobs,
    changes,
    events,
    limits,
    liveAnswers,
  };
}

export type Core = ReturnType<typeof createCoreServices>;
