export type ChannelText = { channel: string; text: string };

/** Publishes and subscribes; channels are subscribed again after every reconnect. */
export interface PubSub {
  /** Whether all subscribed channels are received and publishing works, as far as known. */
  isConnected(): boolean;
  /** Publishes all of it, each channel in order. @throws if something may not have arrived. */
  publish(messages: readonly ChannelText[]): Promise<void>;
  subscribe(channel: string): void;
  unsubscribe(channel: string): void;
  /** Drops the connections, which may be dead, and opens new ones. */
  reconnect(): void;
  close(): Promise<void>;
}

export type PubSubListener = {
  onMessage(channel: string, text: string): void;
  /** The server has confirmed a subscription, the first one or one after a reconnect. */
  onSubscribed(channel: string): void;
  onError(error: unknown): void;
};

export type PubSubOptions = {
  url: string;
  /** Channels that only some instances subscribe to. In a cluster, only the node of their slot has them. */
  isSharded(channel: string): boolean;
};
