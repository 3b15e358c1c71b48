import type { Log } from "../lib/log.ts";
import type { Bus, BusMessage, Subscriber } from "./bus.ts";

/** The bus within one process: nothing is lost, and there is never a gap. */
export function createMemoryBus({ log }: { log: Log }): Bus {
  const channels = new Map<string, Set<Subscriber<never>>>();

  return {
    publish(channel, create) {
      const subscribers = channels.get(channel);
      if (!subscribers) return;
      for (const message of create())
        for (const subscriber of subscribers) {
          try {
            subscriber.onMessage(message as never);
          } catch (error) {
            // What is published has happened: a subscriber's fault is not the publisher's.
            log.error({ err: error, channel, type: message.type }, "a message of the bus could not be taken in");
          }
        }
    },

    subscribe<Channel extends string>(channel: Channel, subscriber: Subscriber<BusMessage<Channel>>) {
      const subscribers = channels.get(channel) ?? new Set();
      channels.set(channel, subscribers.add(subscriber as Subscriber<never>));
      return () => {
        subscribers.delete(subscriber as Subscriber<never>);
        if (subscribers.size === 0 && channels.get(channel) === subscribers) channels.delete(channel);
      };
    },
  };
}
