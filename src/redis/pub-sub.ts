import { Redis } from "ioredis";
import { connectCluster } from "./cluster/pub-sub.ts";
import { busOptions } from "./connection-options.ts";
import { connectNode } from "./node.ts";
import type { PubSub, PubSubListener, PubSubOptions } from "./pub-sub-port.ts";
import { createNodeOptions, detectServerKind, parseSeedAddress } from "./target.ts";

/** Connects to Redis. Once the server responds, detects whether it is a cluster. */
export function connectPubSub(options: PubSubOptions, listener: PubSubListener): PubSub {
  const subscribedChannels = new Set<string>();
  const seed = new Redis({ ...busOptions, ...createNodeOptions(options.url, parseSeedAddress(options.url)) });
  let pubSub: PubSub | null = null;
  let isClosed = false;

  async function openPubSub(): Promise<void> {
    try {
      const { hasShardedChannels } = await detectServerKind(seed);
      if (pubSub || isClosed) return;
      pubSub = hasShardedChannels ? connectCluster(options, seed, listener) : connectServer(options.url, listener);
      if (!hasShardedChannels) seed.disconnect();
      for (const channel of subscribedChannels) pubSub.subscribe(channel);
    } catch (error) {
      listener.onError(error);
      if (seed.status === "ready") seed.disconnect(true);
    }
  }

  seed.on("error", listener.onError);
  seed.on("ready", () => {
    if (!pubSub) void openPubSub();
  });

  return {
    isConnected: () => pubSub?.isConnected() ?? false,
    async publish(messages) {
      if (!pubSub) throw new Error("Redis has not responded yet.");
      await pubSub.publish(messages);
    },
    subscribe(channel) {
      subscribedChannels.add(channel);
      pubSub?.subscribe(channel);
    },
    unsubscribe(channel) {
      subscribedChannels.delete(channel);
      pubSub?.unsubscribe(channel);
    },
    reconnect: () => pubSub?.reconnect(),
    async close() {
      isClosed = true;
      seed.disconnect();
      await pubSub?.close();
    },
  };
}

/** Connects to a single server. It needs no probes, because the bus detects a dead connection by the absence of heartbeats. */
function connectServer(url: string, listener: PubSubListener): PubSub {
  const node = connectNode({ url, connection: busOptions, isSharded: false }, { ...listener, onMoved: () => {} });
  return { ...node, close: async () => node.close() };
}
