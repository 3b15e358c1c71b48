import type { Log } from "../lib/log.ts";
import type { Bus } from "./bus.ts";
import { createLocalSubscribers, subscribeLocally } from "./local-subscribers.ts";

/** Creates a bus within a single process. It never loses messages, so there are no gaps. */
export function createMemoryBus({ log }: { log: Log }): Bus {
  const local = createLocalSubscribers(log);
  return {
    scope: "process",
    isHealthy: () => true,
    listOtherInstances: () => [],
    // Other instances that this bus can't reach may use the same database.
    isAlone: () => false,
    waitUntilAnnounced: async () => {},
    publish(channel, createMessages) {
      if (local.has(channel)) local.deliver(channel, createMessages(), false);
    },
    subscribe: subscribeLocally(local),
    async close() {},
  };
}
