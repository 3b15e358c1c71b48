import { Redis, type RedisOptions } from "ioredis";
import type { ChannelText, PubSubListener } from "./pub-sub-port.ts";

/** Channels per SUBSCRIBE command. */
const CHANNELS_MAX = 500;

export type NodeListener = PubSubListener & {
  /** The server no longer serves a sharded channel, or never did. */
  onMoved(): void;
};

type Options = {
  connection: RedisOptions;
  /** A URL, for everything except the address. */
  url?: string;
  /**
   * Either all of its channels are sharded, or none: otherwise the client loses messages of the others when the last sharded
   * one ends.
   */
  isSharded: boolean;
};

/** Two connections to one server, a cluster's node or a single one: one publishes, one subscribes. */
export interface NodePubSub {
  readonly publisher: Redis;
  /** Whether all subscribed channels are received and publishing works, as far as known. */
  isConnected(): boolean;
  /** Publishes all of it in order. @throws if something may not have arrived. */
  publish(messages: readonly ChannelText[]): Promise<void>;
  subscribe(channel: string): void;
  unsubscribe(channel: string): void;
  /** Subscribes channels again that the server has ended or refused. */
  renew(): void;
  /** Replaces connections that don't respond. */
  probe(): Promise<void>;
  /** Drops the connections, which may be dead, and opens new ones. */
  reconnect(): void;
  close(): void;
}

export function connectNode({ connection: options, url, isSharded }: Options, listener: NodeListener): NodePubSub {
  const connect = () => (url === undefined ? new Redis(options) : new Redis(url, options));
  const publisher = connect();
  const subscriber = connect();
  const wanted = new Set<string>();
  /** The subscriptions sent on this connection. */
  let sentSubscriptions = new Set<string>();
  let changed = new Set<string>();
  let isScheduled = false;
  let isListening = false;
  let isProbing = false;

  function markChanged(channel: string): void {
    changed.add(channel);
    if (isScheduled) return;
    isScheduled = true;
    setImmediate(sendSubscriptions);
  }

  function sendSubscriptions(): void {
    isScheduled = false;
    if (subscriber.status !== "ready") return;
    const channels = [...changed];
    changed = new Set();
    const unwanted = channels.filter((channel) => sentSubscriptions.has(channel) && !wanted.has(channel));
    const resubscribed = channels.filter((channel) => sentSubscriptions.has(channel) && wanted.has(channel));
    for (const channel of unwanted) sentSubscriptions.delete(channel);
    for (const chunk of splitIntoCommands(unwanted, isSharded)) unsubscribeChunk(chunk).catch(reportUnsubscribed);
    for (const channel of resubscribed) listener.onSubscribed(channel);
    void subscribeAll(channels.filter((channel) => !sentSubscriptions.has(channel) && wanted.has(channel)));
  }

  const unsubscribeChunk = (channels: string[]): Promise<unknown> =>
    isSharded ? subscriber.sunsubscribe(...channels) : subscriber.unsubscribe(...channels);

  /** A moved channel is no longer received here, as requested. */
  function reportUnsubscribed(error: unknown): void {
    if (!isMoved(error)) listener.onError(error);
  }

  async function subscribeAll(channels: string[]): Promise<void> {
    const connection = sentSubscriptions;
    for (const channel of channels) sentSubscriptions.add(channel);
    try {
      await Promise.all(splitIntoCommands(channels, isSharded).map((chunk) => subscribeChunk(chunk, connection)));
      if (connection === sentSubscriptions) isListening = true;
    } catch (error) {
      listener.onError(error);
      // Only some of them may be received: start over.
      if (connection === sentSubscriptions) subscriber.disconnect(true);
    }
  }

  async function subscribeChunk(channels: string[], connection: Set<string>): Promise<void> {
    try {
      await (isSharded ? subscriber.ssubscribe(...channels) : subscriber.subscribe(...channels));
    } catch (error) {
      if (!isMoved(error)) throw error;
      for (const channel of channels) connection.delete(channel);
      listener.onMoved();
      return;
    }
    if (connection === sentSubscriptions)
      for (const channel of channels) if (wanted.has(channel)) listener.onSubscribed(channel);
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
    changed = new Set(wanted);
    sendSubscriptions();
  });
  subscriber.on("close", () => {
    isListening = false;
    sentSubscriptions = new Set();
  });
  subscriber.on("message", listener.onMessage);
  subscriber.on("smessage", listener.onMessage);
  // The server ends a sharded channel with its slot; the client only reports that it happened.
  subscriber.on("moved", () => {
    const subscribed = listSubscribed(subscriber);
    for (const channel of sentSubscriptions) if (!subscribed.has(channel)) sentSubscriptions.delete(channel);
    listener.onMoved();
  });
  for (const connection of [publisher, subscriber]) connection.on("error", listener.onError);

  return {
    publisher,
    isConnected: () => wanted.size === 0 || (isListening && publisher.status === "ready"),
    async publish(messages) {
      const pipeline = publisher.pipeline();
      for (const { channel, text } of messages)
        if (isSharded) pipeline.spublish(channel, text);
        else pipeline.publish(channel, text);
      const results = (await pipeline.exec()) ?? [];
      for (const [error] of results) if (error) throw error;
    },
    subscribe(channel) {
      wanted.add(channel);
      markChanged(channel);
    },
    unsubscribe(channel) {
      wanted.delete(channel);
      markChanged(channel);
    },
    renew() {
      for (const channel of wanted) if (!sentSubscriptions.has(channel)) markChanged(channel);
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

/** The parts of one command: sharded channels in one command must share a slot, so each gets its own. */
function splitIntoCommands(channels: readonly string[], isSharded: boolean): string[][] {
  const size = isSharded ? 1 : CHANNELS_MAX;
  const chunks: string[][] = [];
  for (let from = 0; from < channels.length; from += size) chunks.push(channels.slice(from, from + size));
  return chunks;
}

/** The client's own list of subscriptions, which may be incomplete once a slot has moved. */
function listSubscribed(subscriber: Redis): Set<string> {
  const known = subscriber.condition?.subscriber;
  return new Set(known ? known.channels("ssubscribe") : []);
}

/** Redis names another node, or has none for the slot. */
export const isMoved = (error: unknown): boolean =>
  error instanceof Error && /^(?:MOVED|ASK|CLUSTERDOWN|TRYAGAIN)\b/.test(error.message);
