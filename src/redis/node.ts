import { Redis, type RedisOptions } from "ioredis";
import type { ChannelText, PubSubListener } from "./pub-sub-port.ts";

/** The maximum number of channels per SUBSCRIBE command. */
const CHANNELS_PER_COMMAND_MAX = 500;

export type NodeListener = PubSubListener & {
  /** Called if the server no longer serves a sharded channel, or never did. */
  onMoved(): void;
};

type Options = {
  connection: RedisOptions;
  /** The server's URL. If absent, `connection` contains the address and credentials. */
  url?: string;
  /**
   * Whether all channels are sharded. A connection can't have both kinds, because the client would stop receiving the other channels'
   * messages when the last sharded channel is unsubscribed.
   */
  isSharded: boolean;
};

/** Two connections to a server or a cluster node: one for publishing, one for subscribing. */
export interface NodePubSub {
  readonly publisher: Redis;
  /** Returns whether, as far as known, publishing works and all subscriptions are active. */
  isConnected(): boolean;
  /** Publishes messages in order. @throws if any of them may be lost. */
  publish(messages: readonly ChannelText[]): Promise<void>;
  subscribe(channel: string): void;
  unsubscribe(channel: string): void;
  /** Renews subscriptions that the server has ended or rejected. */
  renew(): void;
  /** Pings both connections, and replaces those that don't respond. */
  probe(): Promise<void>;
  /** Drops the connections, which may be dead, and opens new ones. */
  reconnect(): void;
  close(): void;
}

export function connectNode({ connection: options, url, isSharded }: Options, listener: NodeListener): NodePubSub {
  const connect = () => (url === undefined ? new Redis(options) : new Redis(url, options));
  const publisher = connect();
  const subscriber = connect();
  const wantedChannels = new Set<string>();
  /** The channels whose subscription was sent on the current connection. */
  let sentSubscriptions = new Set<string>();
  let changedChannels = new Set<string>();
  let isScheduled = false;
  let isListening = false;
  let isProbing = false;

  function markChanged(channel: string): void {
    changedChannels.add(channel);
    if (isScheduled) return;
    isScheduled = true;
    setImmediate(sendSubscriptions);
  }

  function sendSubscriptions(): void {
    isScheduled = false;
    if (subscriber.status !== "ready") return;
    const channels = [...changedChannels];
    changedChannels = new Set();
    const toUnsubscribe = channels.filter((channel) => sentSubscriptions.has(channel) && !wantedChannels.has(channel));
    const resubscribed = channels.filter((channel) => sentSubscriptions.has(channel) && wantedChannels.has(channel));
    for (const channel of toUnsubscribe) sentSubscriptions.delete(channel);
    for (const chunk of splitIntoCommands(toUnsubscribe, isSharded))
      unsubscribeChunk(chunk).catch(reportUnsubscribeError);
    for (const channel of resubscribed) listener.onSubscribed(channel);
    void subscribeAll(channels.filter((channel) => !sentSubscriptions.has(channel) && wantedChannels.has(channel)));
  }

  const unsubscribeChunk = (channels: string[]): Promise<unknown> =>
    isSharded ? subscriber.sunsubscribe(...channels) : subscriber.unsubscribe(...channels);

  /** Ignores the error if the channel has moved, because then the subscription has already ended here. */
  function reportUnsubscribeError(error: unknown): void {
    if (!isMoved(error)) listener.onError(error);
  }

  async function subscribeAll(channels: string[]): Promise<void> {
    const subscriptions = sentSubscriptions;
    for (const channel of channels) sentSubscriptions.add(channel);
    try {
      await Promise.all(splitIntoCommands(channels, isSharded).map((chunk) => subscribeChunk(chunk, subscriptions)));
      if (subscriptions === sentSubscriptions) isListening = true;
    } catch (error) {
      listener.onError(error);
      // Reconnects to start over, because some of the subscriptions may have failed.
      if (subscriptions === sentSubscriptions) subscriber.disconnect(true);
    }
  }

  async function subscribeChunk(channels: string[], subscriptions: Set<string>): Promise<void> {
    try {
      await (isSharded ? subscriber.ssubscribe(...channels) : subscriber.subscribe(...channels));
    } catch (error) {
      if (!isMoved(error)) throw error;
      for (const channel of channels) subscriptions.delete(channel);
      listener.onMoved();
      return;
    }
    if (subscriptions === sentSubscriptions)
      for (const channel of channels) if (wantedChannels.has(channel)) listener.onSubscribed(channel);
  }

  async function probeConnection(connection: Redis): Promise<void> {
    if (connection.status !== "ready") return;
    try {
      await connection.ping();
    } catch (error) {
      listener.onError(error);
      if (connection.status === "ready") connection.disconnect(true);
    }
  }

  subscriber.on("ready", () => {
    sentSubscriptions = new Set();
    changedChannels = new Set(wantedChannels);
    sendSubscriptions();
  });
  subscriber.on("close", () => {
    isListening = false;
    sentSubscriptions = new Set();
  });
  subscriber.on("message", listener.onMessage);
  subscriber.on("smessage", listener.onMessage);
  // When a slot moves, the server ends the subscriptions to its channels. The client's event doesn't include their names.
  subscriber.on("moved", () => {
    const subscribed = listSubscribed(subscriber);
    for (const channel of sentSubscriptions) if (!subscribed.has(channel)) sentSubscriptions.delete(channel);
    listener.onMoved();
  });
  for (const connection of [publisher, subscriber]) connection.on("error", listener.onError);

  return {
    publisher,
    isConnected: () => wantedChannels.size === 0 || (isListening && publisher.status === "ready"),
    async publish(messages) {
      const pipeline = publisher.pipeline();
      for (const { channel, text } of messages)
        if (isSharded) pipeline.spublish(channel, text);
        else pipeline.publish(channel, text);
      const results = (await pipeline.exec()) ?? [];
      for (const [error] of results) if (error) throw error;
    },
    subscribe(channel) {
      wantedChannels.add(channel);
      markChanged(channel);
    },
    unsubscribe(channel) {
      wantedChannels.delete(channel);
      markChanged(channel);
    },
    renew() {
      for (const channel of wantedChannels) if (!sentSubscriptions.has(channel)) markChanged(channel);
    },
    async probe() {
      if (isProbing) return;
      isProbing = true;
      await Promise.all([publisher, subscriber].map(probeConnection));
      isProbing = false;
    },
    reconnect() {
      for (const connection of [publisher, subscriber]) if (connection.status === "ready") connection.disconnect(true);
    },
    close() {
      publisher.disconnect();
      subscriber.disconnect();
    },
  };
}

/** Splits channels into commands. Each sharded channel has its own command, because all channels in a command must have the same slot. */
function splitIntoCommands(channels: readonly string[], isSharded: boolean): string[][] {
  const size = isSharded ? 1 : CHANNELS_PER_COMMAND_MAX;
  const chunks: string[][] = [];
  for (let from = 0; from < channels.length; from += size) chunks.push(channels.slice(from, from + size));
  return chunks;
}

/** Returns the subscriptions that the client considers active. After a slot has moved, some are missing. */
function listSubscribed(subscriber: Redis): Set<string> {
  const subscriptions = subscriber.condition?.subscriber;
  return new Set(subscriptions ? subscriptions.channels("ssubscribe") : []);
}

/** Returns whether Redis rejected a command because this node doesn't serve the slot. */
export const isMoved = (error: unknown): boolean =>
  error instanceof Error && /^(?:MOVED|ASK|CLUSTERDOWN|TRYAGAIN)\b/.test(error.message);
