import { Redis } from "ioredis";
import { connectCluster } from "./cluster/pub-sub.ts";
import { busOptions } from "./connection-options.ts";
import { connectNode } from "./node.ts";
import type { PubSub, PubSubListener, PubSubOptions } from "./pub-sub-port.ts";
import { createNodeOptions, findSeed, findServerKind } from "./target.ts";

/** Detects whether the server is a cluster once it responds, and connects accordingly. */
export function connectPubSub(options: PubSubOptions, listener: PubSubListener): PubSub {
  const wanted = new Set<string>();
  const seed = new Redis({ ...busOptions, ...createNodeOptions(options.url, findSeed(options.url)) });
  let pubSub: PubSub | null = null;
  let isClosed = false;

  async function choose(): Promise<void> {
    try {
      const { hasShardedChannels } = await findServerKind(seed);
      if (pubSub || isClosed) return;
      pubSub = hasShardedChannels ? connectCluster(options, seed, listener) : connectServer(options.url, listener);
      if (!hasShardedChannels) seed.disconnect();
      for (const channel of wanted) pubSub.subscribe(channel);
    } catch (error) {
      listener.onError(error);
      if (seed.status === "ready") seed.disconnect(true);
    }
  }

  seed.on("error", listener.onError);
  seed.on("ready", () => {
    if (!pubSub) void choose();
  });

  return {
    isConnected: () => pubSub?.isConnected() ?? false,
    async publish(messages) {
      if (!pubSub) throw new Error("Redis has not responded yet.");
      await pubSub.publish(messages);
    },
    subscribe(channel) {
      wanted.add(channel);
      pubSub?.subscribe(channel);
    },
    unsubscribe(channel) {
      wanted.delete(channel);
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

/** A single server. Dead connections are detected because the bus doesn't receive its own messages. */
function connectServer(url: string, listener: PubSubListener): PubSub {
  const node = connectNode({ url, connection: busOptions, isSharded: false }, { ...listener, onMoved: () => {} });
  return { ...node, close: async () => node.close() };
}
