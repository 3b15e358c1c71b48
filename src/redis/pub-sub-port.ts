export type ChannelText = { channel: string; text: string };

/** Publishes and subscribes. After every reconnect, channels are subscribed to again. */
export interface PubSub {
  /** Whether all subscribed channels are received and publishing works, as far as known. */
  isConnected(): boolean;
  /** Publishes all messages, in order within each channel. @throws if one may not have arrived. */
  publish(messages: readonly ChannelText[]): Promise<void>;
  subscribe(channel: string): void;
  unsubscribe(channel: string): void;
  /** Drops the connections, which may be dead, and opens new ones. */
  reconnect(): void;
  close(): Promise<void>;
}

export type PubSubListener = {
  onMessage(channel: string, text: string): void;
  /** Called when the server has confirmed a subscription, including those after a reconnect. */
  onSubscribed(channel: string): void;
  onError(error: unknown): void;
};

export type PubSubOptions = {
  url: string;
  /** Whether only some instances subscribe to a channel. In a cluster, only the node of its slot then handles it. */
  isSharded(channel: string): boolean;
};
