import type { Bus, BusMessage, Subscriber } from "../../src/realtime/bus.ts";
import { createLocalSubscribers, type LocalSubscribers } from "../../src/realtime/local-subscribers.ts";
import { silentLog } from "./log.ts";

const LATENCY_MS = 1;

/**
 * Buses of two instances, as if over a network: messages of one reach the other as JSON, in order, a moment later;
 * messages sent while the link is cut are lost, and after it both get a gap.
 */
export function linkBuses() {
  const locals = [createLocalSubscribers(silentLog), createLocalSubscribers(silentLog)] as const;
  /** The messages that went over the link. */
  const carried: BusMessage<string>[] = [];
  let isCut = false;

  const createEnd = (own: LocalSubscribers, other: LocalSubscribers): Bus => ({
    scope: "instances",
    isHealthy: () => !isCut,
    listPeers: () => ["the other"],
    isAlone: () => false,
    untilAnnounced: async () => {},
    publish(channel, create) {
      const messages = [...create()];
      own.deliver(channel, messages, false);
      const text = JSON.stringify(messages);
      if (isCut) return;
      carried.push(...(JSON.parse(text) as typeof carried));
      setTimeout(() => other.deliver(channel, JSON.parse(text) as typeof messages, true), LATENCY_MS);
    },
    subscribe(channel, subscriber) {
      const remove = own.add(channel, subscriber as Subscriber<never>);
      let isOpen = true;
      setTimeout(() => {
        if (isOpen && !isCut) subscriber.onGap();
      }, LATENCY_MS);
      return () => {
        isOpen = false;
        remove();
      };
    },
    async close() {},
  });

  return {
    buses: [createEnd(locals[0], locals[1]), createEnd(locals[1], locals[0])] as const,
    carried,
    cut(): void {
      isCut = true;
    },
    restore(): void {
      isCut = false;
      for (const local of locals) for (const channel of [...local.channels()]) local.notifyGap(channel);
    },
  };
}
