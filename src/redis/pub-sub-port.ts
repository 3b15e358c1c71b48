export type ChannelText = { channel: string; text: string };

/** Publishes and subscribes; channels are heard again after every reconnect. */
export interface PubSub {
  /** Whether all channels that are subscribed are heard, and something can be published, as far as is known. */
  isConnected(): boolean;
  /** Publishes all of it, each channel in its order. @throws if something may not have got there. */
  publish(messages: readonly ChannelText[]): Promise<void>;
  subscribe(channel: string): void;
  unsubscribe(channel: string): void;
  /** Gives up the connections, which may be dead, and makes new ones. */
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
  /** Channels that only some instances listen to. In a cluster, the node of their slot alone has them. */
  isSharded(channel: string): boolean;
};
