import { Cluster, Redis, type RedisOptions } from "ioredis";
import { explainLoopback } from "../lib/container.ts";
import type { Log } from "../lib/log.ts";
import { SlotMap, splitAddress } from "./cluster/slots.ts";
import { describeReason } from "./reason.ts";
import { createStoreClient, type StoreClient } from "./store-client.ts";
import { createNodeOptions, createSharedOptions, findSeed, findServerKind } from "./target.ts";

/** A command that is not answered in this time is given up; what asked goes on without Redis. */
const COMMAND_TIMEOUT_MS = 200;
const CONNECT_TIMEOUT_MS = 2_000;
const RECONNECT_MS_MAX = 2_000;
/** How often a sign of life is asked for. */
const PROBE_INTERVAL_MS = 1_000;

const options: RedisOptions = {
  commandTimeout: COMMAND_TIMEOUT_MS,
  connectTimeout: CONNECT_TIMEOUT_MS,
  // What cannot be asked now is not asked later: by then it has been decided without.
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
};
const retryStrategy = (times: number): number => Math.min(times * 100, RECONNECT_MS_MAX);

export type RedisLink = {
  /** For limiters: of the server, or of the cluster once that is known. */
  client: StoreClient;
  /** Begins the keys of limits; several Parleys may share a Redis. */
  keyPrefix: string;
  /** Whether it answered lately; of a cluster, each master. */
  isAlive(): boolean;
  close(): Promise<void>;
};

/**
 * Connects to Redis or to a Redis Cluster, and keeps trying: it may be away at the start and at any time after. Nothing waits
 * for it longer than a fifth of a second, and nothing at all while it is known to be away. The log gets one line for each change.
 * @param deployment the same for all instances of this Parley, and for no other one.
 */
export function connectRedis(url: string, deployment: string, log: Log): RedisLink {
  // What a cluster answers to the number of a database must not keep it from saying that it is one.
  const seed = new Redis({ ...options, ...createNodeOptions(url, findSeed(url)), retryStrategy });
  const client = createStoreClient();
  let connection: Redis | Cluster | null = null;
  let state: "unknown" | "alive" | "away" = "unknown";
  let isProbing = false;
  let isClosed = false;

  function change(next: "alive" | "away", reason?: string): void {
    if (next === state || isClosed) return;
    // Only a return is worth a line; that it is there at the start is not.
    // One that was there once is where it should be.
    const hint = state === "unknown" && URL.canParse(url) ? explainLoopback(new URL(url).hostname) : "";
    if (next === "away")
      log.warn(
        { reason: hint ? `${reason}.${hint}` : reason },
        "Redis is away; limits are counted by this instance alone meanwhile",
      );
    else if (state === "away") log.info("Redis is back");
    state = next;
  }

  /** Connects in the way that suits the server, once it has said what it is. */
  async function open(): Promise<void> {
    const { isCluster } = await findServerKind(seed);
    const opened = isCluster
      ? await openCluster(url, seed)
      : new Redis(url, { ...options, enableAutoPipelining: true, retryStrategy });
    if (connection || isClosed) return opened.disconnect();
    seed.disconnect();
    connection = opened;
    client.use(opened);
    opened.on("ready", probe);
    opened.on("close", () => change("away", "the connection has ended"));
    opened.on("error", (error: unknown) => change("away", describeReason(error)));
  }

  async function probe(): Promise<void> {
    // While it connects, no command can be sent; the events below say how that ends.
    if (isProbing || (connection ?? seed).status !== "ready") return;
    isProbing = true;
    try {
      if (!connection) await open();
      else {
        await pingAll(connection);
        change("alive");
      }
    } catch (error) {
      change("away", describeReason(error));
      // A connection that has gone silent does not come to an end by itself.
      if (!connection && seed.status === "ready") seed.disconnect(true);
    } finally {
      isProbing = false;
    }
  }

  seed.on("ready", probe);
  seed.on("error", (error: unknown) => change("away", describeReason(error)));
  const timer = setInterval(probe, PROBE_INTERVAL_MS);
  timer.unref();

  return {
    client,
    keyPrefix: `parley:${deployment}:limit:`,
    isAlive: () => state === "alive",
    async close() {
      isClosed = true;
      clearInterval(timer);
      seed.disconnect();
      connection?.disconnect();
    },
  };
}

/** Begins with all masters, so that it finds back without the node of `REDIS_URL`. */
async function openCluster(url: string, seed: Redis): Promise<Cluster> {
  const seedAddress = findSeed(url);
  const slots = new SlotMap(await seed.call("CLUSTER", "SLOTS"), splitAddress(seedAddress).host);
  return new Cluster([...new Set([seedAddress, ...slots.masters])].map(splitAddress), {
    redisOptions: { ...options, ...createSharedOptions(url) },
    enableOfflineQueue: false,
    enableAutoPipelining: true,
    slotsRefreshInterval: PROBE_INTERVAL_MS,
    slotsRefreshTimeout: PROBE_INTERVAL_MS,
    // A name stays a name, for its certificate.
    dnsLookup: (address, callback) => callback(null, address),
    clusterRetryStrategy: retryStrategy,
    // Nobody waits for another node: this instance counts meanwhile.
    retryDelayOnFailover: 0,
    retryDelayOnClusterDown: 0,
    retryDelayOnTryAgain: 0,
  });
}

/** @throws if one doesn't answer, or there is none. */
async function pingAll(connection: Redis | Cluster): Promise<void> {
  if (connection.status !== "ready") throw new Error("The connection is not ready.");
  const nodes = connection instanceof Cluster ? connection.nodes("master") : [connection];
  await Promise.all(nodes.map((node) => pingNode(node, connection instanceof Redis)));
}

/** @param isAlone it connects again by itself; the nodes of a cluster are connected again by the cluster. */
async function pingNode(node: Redis, isAlone: boolean): Promise<void> {
  try {
    await node.ping();
  } catch (error) {
    if (node.status === "ready") node.disconnect(isAlone);
    throw error;
  }
}
