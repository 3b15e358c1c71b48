export type ChannelText = { channel: string; text: string };

/** Publishes messages and subscribes to channels. Subscriptions are renewed after each reconnect. */
export interface PubSub {
  /** Returns whether, as far as known, publishing works and all subscriptions are active. */
  isConnected(): boolean;
  /** Publishes messages, in order within each channel. @throws if any of them may be lost. */
  publish(messages: readonly ChannelText[]): Promise<void>;
  subscribe(channel: string): void;
  unsubscribe(channel: string): void;
  /** Drops the connections, which may be dead, and opens new ones. */
  reconnect(): void;
  close(): Promise<void>;
}

export type PubSubListener = {
  onMessage(channel: string, text: string): void;
  /** Called when the server has confirmed a subscription, initially or after a reconnect. */
  onSubscribed(channel: string): void;
  onError(error: unknown): void;
};

export type PubSubOptions = {
  url: string;
  /** Returns whether a channel is sharded. In a cluster, only the node of its slot handles a sharded channel. */
  isSharded(channel: string): boolean;
};
