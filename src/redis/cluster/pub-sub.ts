import type { Redis } from "ioredis";
import { busOptions } from "../connection-options.ts";
import { connectNode, isMoved } from "../node.ts";
import type { PubSub, PubSubListener, PubSubOptions } from "../pub-sub-port.ts";
import { createNodeOptions, findSeed } from "../target.ts";
import { createHome } from "./home.ts";
import { createShards } from "./shards.ts";
import { type Address, SlotMap, splitAddress } from "./slots.ts";

/** How often nodes are probed, and the slots read again. */
const POLL_MS = 500;
/** The same after a node has reported that a slot has moved. */
const REFRESH_DELAY_MS = 50;

/**
 * Publishes and subscribes in a Redis Cluster: sharded channels through the node of their slot, all others through one node.
 * @param seed a connection to the node of `REDIS_URL`; closed with the others.
 */
export function connectCluster({ url, isSharded }: PubSubOptions, seed: Redis, listener: PubSubListener): PubSub {
  const open = (sharded: boolean) => (address: Address) =>
    connectNode(
      { connection: { ...busOptions, ...createNodeOptions(url, address) }, isSharded: sharded },
      { ...listener, onMoved: scheduleRefresh },
    );
  const shards = createShards(open(true));
  const home = createHome(open(false));
  const seedAddress = findSeed(url);
  const partOf = (channel: string) => (isSharded(channel) ? shards : home);
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
    home.setMasters(slots.masters);
  }

  /**
   * Asks nodes one after the other, beginning with a different one each time: one that is cut off from the rest knows
   * nothing new.
   */
  async function findSlots(): Promise<SlotMap | null> {
    const known = [...shards.nodes()].map(([address, { publisher }]) => ({ address, connection: publisher }));
    for (const { address, connection } of [...shuffle(known), { address: seedAddress, connection: seed }]) {
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
    home.check();
    void refreshSlots();
  }, POLL_MS);
  timer.unref();
  void refreshSlots();

  return {
    isConnected: () => home.isConnected() && shards.isConnected(),

    async publish(messages) {
      const { sharded = [], shared = [] } = Object.groupBy(messages, ({ channel }) =>
        isSharded(channel) ? "sharded" : "shared",
      );
      try {
        await Promise.all([shards.publish(sharded), shared.length > 0 ? home.publish(shared) : undefined]);
      } catch (error) {
        if (isMoved(error)) scheduleRefresh();
        throw error;
      }
    },
    subscribe: (channel) => partOf(channel).subscribe(channel),
    unsubscribe: (channel) => partOf(channel).unsubscribe(channel),
    // Missing messages went through the home node; the other nodes are probed.
    reconnect: home.switchNode,
    async close() {
      isClosed = true;
      clearInterval(timer);
      clearTimeout(refreshTimer);
      seed.disconnect();
      shards.close();
      home.close();
    },
  };
}

function shuffle<Item>(items: readonly Item[]): Item[] {
  return items
    .map((item) => ({ item, rank: Math.random() }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ item }) => item);
}
