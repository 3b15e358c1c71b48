import { Cluster, Redis, type RedisOptions } from "ioredis";
import { explainLoopback } from "../lib/container.ts";
import type { Log } from "../lib/log.ts";
import { SlotMap, splitAddress } from "./cluster/slots.ts";
import { describeRedisError } from "./describe-error.ts";
import { createStoreClient, type StoreClient } from "./store-client.ts";
import { createNodeOptions, createSharedOptions, detectServerKind, parseSeedAddress } from "./target.ts";

/** The timeout of a command, after which callers continue without Redis. */
const COMMAND_TIMEOUT_MS = 200;
const CONNECT_TIMEOUT_MS = 2_000;
const RECONNECT_MS_MAX = 2_000;
/** The interval between health probes. */
const PROBE_INTERVAL_MS = 1_000;

const connectionOptions: RedisOptions = {
  commandTimeout: COMMAND_TIMEOUT_MS,
  connectTimeout: CONNECT_TIMEOUT_MS,
  // Commands aren't queued while disconnected, because callers would continue without Redis before they could be sent.
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
};
const retryStrategy = (times: number): number => Math.min(times * 100, RECONNECT_MS_MAX);

export type RedisLink = {
  /** The client for limiters. It becomes ready once the kind of server is known. */
  client: StoreClient;
  /** The prefix of the limiters' keys. Several deployments may use the same Redis. */
  keyPrefix: string;
  /** Returns whether Redis has responded recently. In a cluster, every master must have responded. */
  isAvailable(): boolean;
  close(): Promise<void>;
};

/**
 * Connects to Redis or a Redis Cluster, and reconnects if necessary. Redis may be unavailable at startup or later. A command takes
 * at most 200 ms, and fails immediately while Redis is known to be unavailable. Each state change is logged once.
 * @param deployment the deployment's id, which all its instances share.
 */
export function connectRedis(url: string, deployment: string, log: Log): RedisLink {
  // Connects to the `REDIS_URL` node without a database number. A cluster would reject the number with an error, and couldn't be detected.
  const seed = new Redis({ ...connectionOptions, ...createNodeOptions(url, parseSeedAddress(url)), retryStrategy });
  const client = createStoreClient();
  let connection: Redis | Cluster | null = null;
  let state: "unknown" | "available" | "unavailable" = "unknown";
  let isProbing = false;
  let isClosed = false;

  function setState(next: "available" | "unavailable", reason?: string): void {
    if (next === state || isClosed) return;
    // Suggests a wrong address only if Redis has never been available.
    const hint = state === "unknown" && URL.canParse(url) ? explainLoopback(new URL(url).hostname) : "";
    if (next === "unavailable")
      log.warn(
        { reason: hint ? `${reason}.${hint}` : reason },
        "Redis is unavailable; this instance counts limits on its own until it returns",
      );
    else if (state === "unavailable") log.info("Redis is available again");
    state = next;
  }

  /** Detects the kind of server, and connects accordingly. */
  async function connect(): Promise<void> {
    const { isCluster } = await detectServerKind(seed);
    const newConnection = isCluster
      ? await openCluster(url, seed)
      : new Redis(url, { ...connectionOptions, enableAutoPipelining: true, retryStrategy });
    if (connection || isClosed) return newConnection.disconnect();
    seed.disconnect();
    connection = newConnection;
    client.setClient(newConnection);
    newConnection.on("ready", probe);
    newConnection.on("close", () => setState("unavailable", "the connection has ended"));
    newConnection.on("error", (error: unknown) => setState("unavailable", describeRedisError(error)));
  }

  async function probe(): Promise<void> {
    // No command can be sent while connecting. The event handlers record the outcome.
    if (isProbing || (connection ?? seed).status !== "ready") return;
    isProbing = true;
    try {
      if (!connection) await connect();
      else {
        await pingAll(connection);
        setState("available");
      }
    } catch (error) {
      setState("unavailable", describeRedisError(error));
      // An unresponsive connection doesn't close on its own.
      if (!connection && seed.status === "ready") seed.disconnect(true);
    } finally {
      isProbing = false;
    }
  }

  seed.on("ready", probe);
  seed.on("error", (error: unknown) => setState("unavailable", describeRedisError(error)));
  const timer = setInterval(probe, PROBE_INTERVAL_MS);
  timer.unref();

  return {
    client,
    keyPrefix: `parley:${deployment}:limit:`,
    isAvailable: () => state === "available",
    async close() {
      isClosed = true;
      clearInterval(timer);
      seed.disconnect();
      connection?.disconnect();
    },
  };
}

/** Opens a cluster client with the addresses of all masters, so that it can reconnect even if the `REDIS_URL` node is down. */
async function openCluster(url: string, seed: Redis): Promise<Cluster> {
  const seedAddress = parseSeedAddress(url);
  const slots = new SlotMap(await seed.call("CLUSTER", "SLOTS"), splitAddress(seedAddress).host);
  return new Cluster([...new Set([seedAddress, ...slots.masters])].map(splitAddress), {
    redisOptions: { ...connectionOptions, ...createSharedOptions(url) },
    enableOfflineQueue: false,
    enableAutoPipelining: true,
    slotsRefreshInterval: PROBE_INTERVAL_MS,
    slotsRefreshTimeout: PROBE_INTERVAL_MS,
    // Doesn't resolve host names, because they are needed to verify certificates.
    dnsLookup: (address, callback) => callback(null, address),
    clusterRetryStrategy: retryStrategy,
    // Commands don't wait for a failover. During one, this instance counts limits on its own.
    retryDelayOnFailover: 0,
    retryDelayOnClusterDown: 0,
    retryDelayOnTryAgain: 0,
  });
}

/** Pings all nodes. @throws if a node doesn't respond, or if there are no nodes. */
async function pingAll(connection: Redis | Cluster): Promise<void> {
  if (connection.status !== "ready") throw new Error("The connection is not ready.");
  const nodes = connection instanceof Cluster ? connection.nodes("master") : [connection];
  await Promise.all(nodes.map((node) => pingNode(node, connection instanceof Redis)));
}

/** @param shouldReconnect whether the node must reconnect on its own. A cluster client reconnects its nodes. */
async function pingNode(node: Redis, shouldReconnect: boolean): Promise<void> {
  try {
    await node.ping();
  } catch (error) {
    if (node.status === "ready") node.disconnect(shouldReconnect);
    throw error;
  }
}
