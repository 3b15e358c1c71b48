import type { Log } from "../lib/log.ts";
import type { Bus } from "./bus.ts";
import { createLocalSubscribers, subscribeLocally } from "./local-subscribers.ts";

/** The bus within one process: nothing is lost, and there is never a gap. */
export function createMemoryBus({ log }: { log: Log }): Bus {
  const local = createLocalSubscribers(log);
  return {
    scope: "process",
    isHealthy: () => true,
    listPeers: () => [],
    // Warns about other instances on the same database: this bus can't reach them.
    isAlone: () => false,
    untilAnnounced: async () => {},
    publish(channel, create) {
      if (local.has(channel)) local.deliver(channel, create(), false);
    },
    subscribe: subscribeLocally(local),
    async close() {},
  };
}
