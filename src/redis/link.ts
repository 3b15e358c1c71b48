import { Cluster, Redis, type RedisOptions } from "ioredis";
import { explainLoopback } from "../lib/container.ts";
import type { Log } from "../lib/log.ts";
import { SlotMap, splitAddress } from "./cluster/slots.ts";
import { describeReason } from "./reason.ts";
import { createStoreClient, type StoreClient } from "./store-client.ts";
import { createNodeOptions, createSharedOptions, findSeed, findServerKind } from "./target.ts";

/** Timeout of a command; callers continue without Redis. */
const COMMAND_TIMEOUT_MS = 200;
const CONNECT_TIMEOUT_MS = 2_000;
const RECONNECT_MS_MAX = 2_000;
/** Interval of health probes. */
const PROBE_INTERVAL_MS = 1_000;

const options: RedisOptions = {
  commandTimeout: COMMAND_TIMEOUT_MS,
  connectTimeout: CONNECT_TIMEOUT_MS,
  // No offline queue: by then the caller has decided without Redis.
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
};
const retryStrategy = (times: number): number => Math.min(times * 100, RECONNECT_MS_MAX);

export type RedisLink = {
  /** For limiters: the client of the server, or of the cluster once detected. */
  client: StoreClient;
  /** The prefix of the limits' keys; several Parleys may share a Redis. */
  keyPrefix: string;
  /** Whether it responded recently; in a cluster, every master. */
  isAlive(): boolean;
  close(): Promise<void>;
};

/**
 * Connects to Redis or to a Redis Cluster, with reconnects: it may be unavailable at startup and at any later time. Callers
 * wait for it at most a fifth of a second, and not at all while it is known to be unavailable. State changes are logged once.
 * @param deployment the same for all instances of this Parley, and unique to it.
 */
export function connectRedis(url: string, deployment: string, log: Log): RedisLink {
  // A cluster's error about the database number must not keep it from being detected.
  const seed = new Redis({ ...options, ...createNodeOptions(url, findSeed(url)), retryStrategy });
  const client = createStoreClient();
  let connection: Redis | Cluster | null = null;
  let state: "unknown" | "alive" | "away" = "unknown";
  let isProbing = false;
  let isClosed = false;

  function change(next: "alive" | "away", reason?: string): void {
    if (next === state || isClosed) return;
    // Only a return is logged, not that it is available at the start.
    // Once it was available, its address is right.
    const hint = state === "unknown" && URL.canParse(url) ? explainLoopback(new URL(url).hostname) : "";
    if (next === "away")
      log.warn(
        { reason: hint ? `${reason}.${hint}` : reason },
        "Redis is unavailable; this instance counts limits on its own until it returns",
      );
    else if (state === "away") log.info("Redis is available again");
    state = next;
  }

  /** Connects as the kind of server requires, once that is known. */
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
    // While it connects, no command can be sent; the events below report the outcome.
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
      // An unresponsive connection doesn't close on its own.
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

/** Starts with all masters, so that it reconnects without the node of `REDIS_URL`. */
async function openCluster(url: string, seed: Redis): Promise<Cluster> {
  const seedAddress = findSeed(url);
  const slots = new SlotMap(await seed.call("CLUSTER", "SLOTS"), splitAddress(seedAddress).host);
  return new Cluster([...new Set([seedAddress, ...slots.masters])].map(splitAddress), {
    redisOptions: { ...options, ...createSharedOptions(url) },
    enableOfflineQueue: false,
    enableAutoPipelining: true,
    slotsRefreshInterval: PROBE_INTERVAL_MS,
    slotsRefreshTimeout: PROBE_INTERVAL_MS,
    // A host name stays a name, for its certificate.
    dnsLookup: (address, callback) => callback(null, address),
    clusterRetryStrategy: retryStrategy,
    // No wait for another node: this instance counts until then.
    retryDelayOnFailover: 0,
    retryDelayOnClusterDown: 0,
    retryDelayOnTryAgain: 0,
  });
}

/** @throws if one doesn't respond, or there is none. */
async function pingAll(connection: Redis | Cluster): Promise<void> {
  if (connection.status !== "ready") throw new Error("The connection is not ready.");
  const nodes = connection instanceof Cluster ? connection.nodes("master") : [connection];
  await Promise.all(nodes.map((node) => pingNode(node, connection instanceof Redis)));
}

/** @param isAlone reconnects automatically; the cluster reconnects its own nodes. */
async function pingNode(node: Redis, isAlone: boolean): Promise<void> {
  try {
    await node.ping();
  } catch (error) {
    if (node.status === "ready") node.disconnect(isAlone);
    throw error;
  }
}
