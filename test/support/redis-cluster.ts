import { Redis } from "ioredis";
import { findFreePort, startRedis } from "./redis.ts";
import { startRelay } from "./relay.ts";
import { waitUntil } from "./wait-until.ts";

const SLOTS = 16_384;
const NODE_TIMEOUT_MS = 1_000;

export type TestCluster = Awaited<ReturnType<typeof startRedisCluster>>;

/** Starts a Redis Cluster. The masters share the hash slots, and each of the first `replicas` masters has one replica. */
export async function startRedisCluster(masters: number, replicas = 0, settings: Record<string, string> = {}) {
  const nodes = await Promise.all(Array.from({ length: masters + replicas }, () => startNode(settings)));
  const clients = nodes.map(({ client }) => client);
  for (const [index, client] of clients.slice(0, masters).entries()) {
    const firstSlot = Math.ceil((SLOTS * index) / masters);
    const lastSlot = Math.ceil((SLOTS * (index + 1)) / masters) - 1;
    await client.call("CLUSTER", "ADDSLOTSRANGE", firstSlot, lastSlot);
    await client.call("CLUSTER", "SET-CONFIG-EPOCH", index + 1);
  }
  for (const node of nodes.slice(1))
    await clients[0]?.call("CLUSTER", "MEET", "127.0.0.1", node.relay.port, node.busPort);
  const knowsAllNodes = async (client: Redis) => {
    const info = String(await client.call("CLUSTER", "INFO"));
    return info.includes("cluster_state:ok") && info.includes(`cluster_known_nodes:${nodes.length}`);
  };
  const areAllNodesConnected = async () => (await Promise.all(clients.map(knowsAllNodes))).every(Boolean);
  await waitUntil(areAllNodesConnected);
  for (const [index, client] of clients.slice(masters).entries())
    await client.call("CLUSTER", "REPLICATE", String(await clients[index]?.call("CLUSTER", "MYID")));
  return {
    /** The URL of one node, which is enough to connect to the cluster. */
    url: nodes[0]?.url ?? "",
    nodes,
    clients,
    /** Resolves when every replica has its master's data. */
    waitForReplication: () =>
      waitUntil(async () => {
        const infos = await Promise.all(clients.slice(masters).map((client) => client.info("replication")));
        return infos.every((info) => info.includes("master_link_status:up"));
      }),
    async stop() {
      for (const client of clients) client.disconnect();
      for (const { relay } of nodes) relay.stop();
      await Promise.all(nodes.map(({ server }) => server.stop()));
    },
  };
}

/** Starts a node behind a relay. Clients and other nodes know only the relay's port. */
async function startNode(settings: Record<string, string>) {
  const busPort = findFreePort();
  const server = await startRedis({
    "cluster-enabled": "yes",
    "cluster-port": String(busPort),
    "cluster-node-timeout": String(NODE_TIMEOUT_MS),
    ...settings,
  });
  const port = Number(new URL(server.url).port);
  const relay = startRelay({ hostname: "127.0.0.1", port: 0 }, { hostname: "127.0.0.1", port });
  const client = new Redis(port, "127.0.0.1", settings.requirepass ? { password: settings.requirepass } : {});
  client.on("error", () => {});
  await client.config("SET", "cluster-announce-port", relay.port);
  await client.config("SET", "cluster-announce-bus-port", busPort);
  return { server, relay, client, busPort, address: `127.0.0.1:${relay.port}`, url: `redis://127.0.0.1:${relay.port}` };
}
