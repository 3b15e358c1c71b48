import type { Bus, BusMessage, Subscriber } from "../../src/realtime/bus.ts";
import { createMemoryBus } from "../../src/realtime/bus-memory.ts";
import { silentLog } from "./log.ts";

/**
 * Buses of two instances, as they would be over a network: what one publishes reaches the other as JSON, in order, a
 * moment later; what is published while the link is cut is lost, and after it both are told of a gap.
 */
export function linkBuses() {
  const locals = [createMemoryBus({ log: silentLog }), createMemoryBus({ log: silentLog })] as const;
  const subscribers = new Set<Subscriber<never>>();
  /** What has gone over the link. */
  const carried: BusMessage<string>[] = [];
  let isCut = false;

  const createEnd = (own: Bus, other: Bus): Bus => ({
    publish(channel, create) {
      const messages = [...create()];
      own.publish(channel, () => messages);
      const text = JSON.stringify(messages);
      if (isCut) return;
      carried.push(...(JSON.parse(text) as typeof carried));
      setTimeout(() => other.publish(channel, () => JSON.parse(text) as typeof messages), 1);
    },
    subscribe(channel, subscriber) {
      const unsubscribe = own.subscribe(channel, subscriber);
      subscribers.add(subscriber as Subscriber<never>);
      return () => {
        subscribers.delete(subscriber as Subscriber<never>);
        unsubscribe();
      };
    },
  });

  return {
    buses: [createEnd(locals[0], locals[1]), createEnd(locals[1], locals[0])] as const,
    carried,
    cut(): void {
      isCut = true;
    },
    mend(): void {
      isCut = false;
      for (const subscriber of subscribers) subscriber.onGap();
    },
  };
}
