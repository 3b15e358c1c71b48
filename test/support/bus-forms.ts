import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDatabase } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import { createMetrics } from "../../src/lib/metrics.ts";
import type { Bus } from "../../src/realtime/bus.ts";
import { createPostgresBus } from "../../src/realtime/bus-postgres.ts";
import { createRedisBus } from "../../src/realtime/bus-redis.ts";
import { silentLog } from "./log.ts";
import { createTestDatabase } from "./postgres.ts";
import { startRedis } from "./redis.ts";
import { startRedisCluster, type TestCluster } from "./redis-cluster.ts";
import { type Filter, startRelay } from "./relay.ts";

export type BusEnd = { bus: Bus; instanceId: string; metrics: ReturnType<typeof createMetrics> };

/** Instances on one kind of bus; the network to its server can be cut for all of them. */
export type BusForm = {
  /** @param instanceId by default a new one. */
  open(instanceId?: string): BusEnd;
  cut(): void;
  restore(): void;
  /** Resets the connections to the server. */
  reset(): void;
  stop(): Promise<void>;
};

const createEnd = (build: (deps: Omit<BusEnd, "bus"> & { log: typeof silentLog; deployment: string }) => Bus) => {
  const deployment = createId().slice(-12);
  return (instanceId = createId()): BusEnd => {
    const metrics = createMetrics({ version: "test", commit: "test" });
    return { bus: build({ instanceId, metrics, log: silentLog, deployment }), instanceId, metrics };
  };
};

export async function openRedisForm(): Promise<BusForm> {
  const redis = await startRedis();
  const { database } = await createTestDatabase(2);
  const relay = startRelay({ hostname: "127.0.0.1", port: 0 }, { hostname: "127.0.0.1", port: portOf(redis.url) });
  const url = `redis://127.0.0.1:${relay.port}`;
  return {
    ...relay,
    open: createEnd((deps) => createRedisBus({ ...deps, url, sql: database })),
    async stop() {
      relay.stop();
      await Promise.all([redis.stop(), database.end({ timeout: 1 })]);
    },
  };
}

/** Over a Redis Cluster; all its nodes are cut off at once. */
export async function openClusterForm(): Promise<BusForm & { cluster: TestCluster }> {
  const cluster = await startRedisCluster(3);
  const { database } = await createTestDatabase(2);
  const toAll = (action: "cut" | "restore" | "reset") => () => {
    for (const { relay } of cluster.nodes) relay[action]();
  };
  return {
    cluster,
    open: createEnd((deps) => createRedisBus({ ...deps, url: cluster.url, sql: database })),
    cut: toAll("cut"),
    restore: toAll("restore"),
    reset: toAll("reset"),
    async stop() {
      await Promise.all([cluster.stop(), database.end({ timeout: 1 })]);
    },
  };
}

const portOf = (url: string): number => Number(new URL(url).port);

/** @param createFilter changes Postgres' messages. */
export async function openPostgresForm(createFilter?: () => Filter): Promise<BusForm> {
  const { database: direct, target } = await createTestDatabase(2);
  const socketDirectory = mkdtempSync(join(tmpdir(), "parley-relay-"));
  const socketOf = (directory: string) => ({ unix: join(directory, ".s.PGSQL.5432") });
  const relay = startRelay(socketOf(socketDirectory), socketOf(target.socketDirectory), createFilter);
  const database = openDatabase({ target: { ...target, socketDirectory }, poolSize: 2 });
  return {
    ...relay,
    open: createEnd((deps) => createPostgresBus({ ...deps, database })),
    async stop() {
      relay.restore();
      await Promise.all([database.end({ timeout: 1 }), direct.end({ timeout: 1 })]);
      relay.stop();
    },
  };
}

const HEAD_BYTES = 5;

/** Drops notifications, like a pooler in transaction mode. */
export function createNotificationFilter(): Filter {
  let rest = Buffer.alloc(0);
  return (bytes) => {
    rest = Buffer.concat([rest, bytes]);
    const kept: Buffer[] = [];
    while (rest.length >= HEAD_BYTES) {
      const length = 1 + rest.readUInt32BE(1);
      if (rest.length < length) break;
      if (rest[0] !== "A".charCodeAt(0)) kept.push(rest.subarray(0, length));
      rest = rest.subarray(length);
    }
    return Buffer.concat(kept);
  };
}
