import type { Redis } from "ioredis";
import { busOptions } from "../connection-options.ts";
import { connectNode, isMoved } from "../node.ts";
import type { PubSub, PubSubListener, PubSubOptions } from "../pub-sub-port.ts";
import { createNodeOptions, parseSeedAddress } from "../target.ts";
import { createHomeNode } from "./home-node.ts";
import { createShardManager } from "./shards.ts";
import { type Address, SlotMap, splitAddress } from "./slots.ts";

/** The interval at which nodes are probed and the slot assignments are read. */
const POLL_MS = 500;
/** The delay before the slot assignments are read again after a node has reported a moved slot. */
const REFRESH_DELAY_MS = 50;

/**
 * Connects to a Redis Cluster. A sharded channel uses the node of its slot. All other channels use the same node, the home node.
 * @param seed a connection to the `REDIS_URL` node. `close` also closes it.
 */
export function connectCluster({ url, isSharded }: PubSubOptions, seed: Redis, listener: PubSubListener): PubSub {
  const createNodeOpener = (sharded: boolean) => (address: Address) =>
    connectNode(
      { connection: { ...busOptions, ...createNodeOptions(url, address) }, isSharded: sharded },
      { ...listener, onMoved: scheduleRefresh },
    );
  const shards = createShardManager(createNodeOpener(true));
  const homeNode = createHomeNode(createNodeOpener(false));
  const seedAddress = parseSeedAddress(url);
  const getChannelNodes = (channel: string) => (isSharded(channel) ? shards : homeNode);
  let isRefreshing = false;
  let isClosed = false;
  let refreshTimer: Timer | undefined;

  function scheduleRefresh(): void {
    if (isClosed) return;
    refreshTimer ??= setTimeout(() => {
      refreshTimer = undefined;
      void refreshSlots();
    }, REFRESH_DELAY_MS);
  }

  async function refreshSlots(): Promise<void> {
    if (isRefreshing || isClosed) return;
    isRefreshing = true;
    const slots = await findSlots();
    isRefreshing = false;
    if (!slots || isClosed) return;
    shards.setSlots(slots);
    homeNode.setMasters(slots.masters);
  }

  /**
   * Queries nodes one after another, in a new random order each time. A node that is disconnected from the cluster may have outdated slot
   * assignments.
   */
  async function findSlots(): Promise<SlotMap | null> {
    const nodes = [...shards.nodes()].map(([address, { publisher }]) => ({ address, connection: publisher }));
    for (const { address, connection } of [...shuffle(nodes), { address: seedAddress, connection: seed }]) {
      if (connection.status !== "ready") continue;
      const slots = await fetchSlots(connection, address);
      if (slots) return slots;
    }
    return null;
  }

  async function fetchSlots(connection: Redis, address: Address): Promise<SlotMap | null> {
    try {
      const slots = new SlotMap(await connection.call("CLUSTER", "SLOTS"), splitAddress(address).host);
      return slots.masters.size > 0 ? slots : null;
    } catch (error) {
      listener.onError(error);
      return null;
    }
  }

  const timer = setInterval(() => {
    for (const [, node] of shards.nodes()) void node.probe();
    homeNode.check();
    void refreshSlots();
  }, POLL_MS);
  timer.unref();
  void refreshSlots();

  return {
    isConnected: () => homeNode.isConnected() && shards.isConnected(),

    async publish(messages) {
      const { sharded = [], shared = [] } = Object.groupBy(messages, ({ channel }) =>
        isSharded(channel) ? "sharded" : "shared",
      );
      try {
        await Promise.all([shards.publish(sharded), shared.length > 0 ? homeNode.publish(shared) : undefined]);
      } catch (error) {
        if (isMoved(error)) scheduleRefresh();
        throw error;
      }
    },
    subscribe: (channel) => getChannelNodes(channel).subscribe(channel),
    unsubscribe: (channel) => getChannelNodes(channel).unsubscribe(channel),
    // Called if heartbeats don't arrive. They are sent through the home node. The other nodes are probed anyway.
    reconnect: homeNode.switchNode,
    async close() {
      isClosed = true;
      clearInterval(timer);
      clearTimeout(refreshTimer);
      seed.disconnect();
      shards.close();
      homeNode.close();
    },
  };
}

function shuffle<Item>(items: readonly Item[]): Item[] {
  return items
    .map((item) => ({ item, rank: Math.random() }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ item }) => item);
}
