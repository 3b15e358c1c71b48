import type { Bus, BusMessage, Subscriber } from "../../src/realtime/bus.ts";
import { createLocalSubscribers, type LocalSubscribers } from "../../src/realtime/local-subscribers.ts";
import { silentLog } from "./log.ts";

const LATENCY_MS = 1;

/**
 * Creates the buses of two instances, connected by a simulated network. Each bus receives the other's messages as JSON,
 * in order, a moment later. Messages sent while the link is cut are lost, and `restore` notifies subscribers of a gap.
 */
export function createLinkedBuses() {
  const subscribers = [createLocalSubscribers(silentLog), createLocalSubscribers(silentLog)] as const;
  /** The messages sent while the link was intact. */
  const sentMessages: BusMessage<string>[] = [];
  let isCut = false;

  const createBus = (ownSubscribers: LocalSubscribers, otherSubscribers: LocalSubscribers): Bus => ({
    scope: "instances",
    isHealthy: () => !isCut,
    listOtherInstances: () => ["the other"],
    isAlone: () => false,
    waitUntilAnnounced: async () => {},
    publish(channel, create) {
      const messages = [...create()];
      ownSubscribers.deliver(channel, messages, false);
      const text = JSON.stringify(messages);
      if (isCut) return;
      sentMessages.push(...(JSON.parse(text) as typeof sentMessages));
      setTimeout(() => otherSubscribers.deliver(channel, JSON.parse(text) as typeof messages, true), LATENCY_MS);
    },
    subscribe(channel, subscriber) {
      const remove = ownSubscribers.add(channel, subscriber as Subscriber<never>);
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
    buses: [createBus(subscribers[0], subscribers[1]), createBus(subscribers[1], subscribers[0])] as const,
    sentMessages,
    cut(): void {
      isCut = true;
    },
    restore(): void {
      isCut = false;
      for (const bus of subscribers) for (const channel of [...bus.channels()]) bus.notifyGap(channel);
    },
  };
}
