import type { Config } from "../config.ts";
import type { Database } from "../db/client.ts";
import type { Log } from "../lib/log.ts";
import type { Metrics } from "../lib/metrics.ts";
import type { Bus } from "../realtime/bus.ts";
import { createMemoryBus } from "../realtime/bus-memory.ts";
import { createPostgresBus } from "../realtime/bus-postgres.ts";
import { createRedisBus } from "../realtime/bus-redis.ts";
import { createDeploymentName } from "./deployment.ts";

type Dependencies = {
  config: Pick<Config, "REDIS_URL" | "DATABASE_URL">;
  database: Database;
  jwtSecret: string;
  log: Log;
  metrics: Metrics;
};

/** Creates the bus over Redis, over the Postgres of DATABASE_URL, or within this process, depending on the settings. */
export function createBus({ config, database, jwtSecret, log, metrics }: Dependencies, instanceId: string): Bus {
  const commonOptions = { instanceId, log, metrics, deployment: createDeploymentName(jwtSecret) };
  if (config.REDIS_URL !== undefined) return createRedisBus({ ...commonOptions, url: config.REDIS_URL, sql: database });
  if (config.DATABASE_URL !== undefined) return createPostgresBus({ ...commonOptions, database });
  return createMemoryBus({ log });
}
