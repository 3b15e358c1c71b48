import type { Log } from "../lib/log.ts";
import type { Bus } from "./bus.ts";
import { createLocalSubscribers, subscribeLocally } from "./local-subscribers.ts";

/** Creates a bus within one process. It never loses messages, so there are no gaps. */
export function createMemoryBus({ log }: { log: Log }): Bus {
  const local = createLocalSubscribers(log);
  return {
    scope: "process",
    isHealthy: () => true,
    listPeers: () => [],
    // False, because there may be other instances on the same database, which this bus can't reach.
    isAlone: () => false,
    untilAnnounced: async () => {},
    publish(channel, create) {
      if (local.has(channel)) local.deliver(channel, create(), false);
    },
    subscribe: subscribeLocally(local),
    async close() {},
  };
}
