import type { Bus, BusMessage, Subscriber } from "../../src/realtime/bus.ts";
import { createLocalSubscribers, type LocalSubscribers } from "../../src/realtime/local-subscribers.ts";
import { silentLog } from "./log.ts";

const LATENCY_MS = 1;

/**
 * Creates the buses of two instances that are connected by a simulated network. Each bus receives the other bus's messages
 * in order, after a short delay and a conversion to JSON and back. Messages sent while the network is cut are lost, and
 * `restore` notifies subscribers of a gap.
 */
export function createLinkedBuses() {
  const subscribers = [createLocalSubscribers(silentLog), createLocalSubscribers(silentLog)] as const;
  /** The messages sent while the network wasn't cut. */
  const sentMessages: BusMessage<string>[] = [];
  let isNetworkCut = false;

  const createBus = (ownSubscribers: LocalSubscribers, otherSubscribers: LocalSubscribers): Bus => ({
    scope: "instances",
    isHealthy: () => !isNetworkCut,
    listOtherInstances: () => ["the other"],
    isAlone: () => false,
    waitUntilAnnounced: async () => {},
    publish(channel, create) {
      const messages = [...create()];
      ownSubscribers.deliver(channel, messages, false);
      const json = JSON.stringify(messages);
      if (isNetworkCut) return;
      sentMessages.push(...(JSON.parse(json) as typeof sentMessages));
      setTimeout(() => otherSubscribers.deliver(channel, JSON.parse(json) as typeof messages, true), LATENCY_MS);
    },
    subscribe(channel, subscriber) {
      const remove = ownSubscribers.add(channel, subscriber as Subscriber<never>);
      let isOpen = true;
      setTimeout(() => {
        if (isOpen && !isNetworkCut) subscriber.onGap();
      }, LATENCY_MS);
      return () => {
        isOpen = false;
        remove();
      };
    },
    async close() {},
  });

  return {
    buses: [createBus(subscribers[0], subscribers[1]), createBus(subscribers[1], subscribers[0])] as const,
    sentMessages,
    cut(): void {
      isNetworkCut = true;
    },
    restore(): void {
      isNetworkCut = false;
      for (const localSubscribers of subscribers)
        for (const channel of [...localSubscribers.listChannels()]) localSubscribers.notifyGap(channel);
    },
  };
}
