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

export type BusInstance = { bus: Bus; instanceId: string; metrics: ReturnType<typeof createMetrics> };

/** A server that buses connect to. A test can cut the network between the server and all instances. */
export type BusBackend = {
  /** @param instanceId If absent, a new id is used. */
  openInstance(instanceId?: string): BusInstance;
  cut(): void;
  restore(): void;
  /** Closes all connections to the server. */
  reset(): void;
  stop(): Promise<void>;
};

const createInstanceFactory = (
  createBus: (deps: Omit<BusInstance, "bus"> & { log: typeof silentLog; deployment: string }) => Bus,
) => {
  const deployment = createId().slice(-12);
  return (instanceId = createId()): BusInstance => {
    const metrics = createMetrics({ version: "test", commit: "test" });
    return { bus: createBus({ instanceId, metrics, log: silentLog, deployment }), instanceId, metrics };
  };
};

/** Starts a Redis server for buses. */
export async function startRedisBackend(): Promise<BusBackend> {
  const redis = await startRedis();
  const { database } = await createTestDatabase(2);
  const relay = startRelay({ hostname: "127.0.0.1", port: 0 }, { hostname: "127.0.0.1", port: parsePort(redis.url) });
  const url = `redis://127.0.0.1:${relay.port}`;
  return {
    ...relay,
    openInstance: createInstanceFactory((deps) => createRedisBus({ ...deps, url, sql: database })),
    async stop() {
      relay.stop();
      await Promise.all([redis.stop(), database.end({ timeout: 1 })]);
    },
  };
}

/** Starts a Redis Cluster for buses. `cut` cuts off all of its nodes. */
export async function startRedisClusterBackend(): Promise<BusBackend & { cluster: TestCluster }> {
  const cluster = await startRedisCluster(3);
  const { database } = await createTestDatabase(2);
  const createNodeAction = (action: "cut" | "restore" | "reset") => () => {
    for (const { relay } of cluster.nodes) relay[action]();
  };
  return {
    cluster,
    openInstance: createInstanceFactory((deps) => createRedisBus({ ...deps, url: cluster.url, sql: database })),
    cut: createNodeAction("cut"),
    restore: createNodeAction("restore"),
    reset: createNodeAction("reset"),
    async stop() {
      await Promise.all([cluster.stop(), database.end({ timeout: 1 })]);
    },
  };
}

const parsePort = (url: string): number => Number(new URL(url).port);

/** Creates a Postgres database for buses. @param createFilter Creates a filter for the data that Postgres sends. */
export async function startPostgresBackend(createFilter?: () => Filter): Promise<BusBackend> {
  const { database: directDatabase, target } = await createTestDatabase(2);
  const socketDirectory = mkdtempSync(join(tmpdir(), "parley-relay-"));
  const createSocketAddress = (directory: string) => ({ unix: join(directory, ".s.PGSQL.5432") });
  const relay = startRelay(
    createSocketAddress(socketDirectory),
    createSocketAddress(target.socketDirectory),
    createFilter,
  );
  const database = openDatabase({ target: { ...target, socketDirectory }, poolSize: 2 });
  return {
    ...relay,
    openInstance: createInstanceFactory((deps) => createPostgresBus({ ...deps, database })),
    async stop() {
      relay.restore();
      await Promise.all([database.end({ timeout: 1 }), directDatabase.end({ timeout: 1 })]);
      relay.stop();
    },
  };
}

/** Each message begins with a type byte and its length in four bytes. The length doesn't include the type byte. */
const HEADER_BYTES = 5;
const NOTIFICATION_TYPE = "A".charCodeAt(0);

/** Creates a filter that drops notifications, as a pooler in transaction mode does. */
export function createNotificationFilter(): Filter {
  let unparsedBytes = Buffer.alloc(0);
  return (bytes) => {
    unparsedBytes = Buffer.concat([unparsedBytes, bytes]);
    const forwardedMessages: Buffer[] = [];
    while (unparsedBytes.length >= HEADER_BYTES) {
      const messageBytes = 1 + unparsedBytes.readUInt32BE(1);
      if (unparsedBytes.length < messageBytes) break;
      if (unparsedBytes[0] !== NOTIFICATION_TYPE) forwardedMessages.push(unparsedBytes.subarray(0, messageBytes));
      unparsedBytes = unparsedBytes.subarray(messageBytes);
    }
    return Buffer.concat(forwardedMessages);
  };
}
