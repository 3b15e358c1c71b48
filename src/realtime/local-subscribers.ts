import type { Log } from "../lib/log.ts";
import type { Bus, Subscriber } from "./bus.ts";

/** Stores the subscribers on this instance. Used by every bus implementation. */
export interface LocalSubscribers {
  /** Adds a subscriber. @returns a function to remove it, which returns whether it was the channel's last subscriber. */
  add(channel: string, subscriber: Subscriber<never>): () => boolean;
  has(channel: string): boolean;
  listChannels(): Iterable<string>;
  deliver(channel: string, messages: Iterable<{ type: string }>, isRemote: boolean): void;
  notifyGap(channel: string): void;
  notifyInstanceLost(instanceId: string): void;
}

export function createLocalSubscribers(log: Log): LocalSubscribers {
  const channels = new Map<string, Set<Subscriber<never>>>();

  /** Runs `work` and logs errors, because a subscriber's error must not affect the publisher. */
  function runSafely(channel: string, type: string, work: () => void): void {
    try {
      work();
    } catch (error) {
      log.error({ err: error, channel, type }, "handling a bus message failed");
    }
  }

  return {
    add(channel, subscriber) {
      const subscribers = channels.get(channel) ?? new Set();
      channels.set(channel, subscribers.add(subscriber));
      return () => {
        subscribers.delete(subscriber);
        const isLast = subscribers.size === 0 && channels.get(channel) === subscribers;
        if (isLast) channels.delete(channel);
        return isLast;
      };
    },
    has: (channel) => channels.has(channel),
    listChannels: () => channels.keys(),

    deliver(channel, messages, isRemote) {
      const subscribers = channels.get(channel);
      if (!subscribers) return;
      for (const message of messages)
        for (const subscriber of subscribers)
          try {
            subscriber.onMessage(message as never, isRemote);
          } catch (error) {
            log.error({ err: error, channel, type: message.type }, "handling a bus message failed");
          }
    },
    notifyGap(channel) {
      for (const subscriber of channels.get(channel) ?? []) runSafely(channel, "gap", () => subscriber.onGap());
    },
    notifyInstanceLost(instanceId) {
      for (const [channel, subscribers] of channels)
        for (const subscriber of subscribers) runSafely(channel, "lost", () => subscriber.onInstanceLost?.(instanceId));
    },
  };
}

/** Implements `subscribe` for a bus that receives no messages from other instances. */
export const subscribeLocally =
  (local: LocalSubscribers): Bus["subscribe"] =>
  (channel, subscriber) => {
    const remove = local.add(channel, subscriber as Subscriber<never>);
    return () => void remove();
  };
