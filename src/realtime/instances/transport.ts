/** Messages of one channel in the form sent to other instances: see envelope.ts. */
export type Envelope = { channel: string; text: string };

/** Callbacks of a transport to the bus. */
export type TransportListener = {
  onEnvelope(channel: string, text: string): void;
  /** A channel is now received, for the first time or again: earlier messages may have been lost. */
  onListening(channel: string): void;
};

/** Carries envelopes to other instances, and back to this one. May lose them, but never changes the order in a channel. */
export interface Transport {
  /** Batches in flight. */
  readonly sendsAtOnce: number;
  /** Time between two batches, in which messages are collected. */
  readonly pauseMs: number;
  /** Characters per batch; a single envelope may be longer. */
  readonly batchChars: number;
  /** Whether messages are pushed to this instance, without polling. */
  isPrompt(): boolean;
  /** Replaces messages of a channel before they are sent; absent: all are sent unchanged. */
  prepare?(channel: string, messages: BusItem[]): BusItem[];
  /** Fulfills once the server has all of it. @throws if something may not have arrived. */
  send(envelopes: readonly Envelope[]): Promise<void>;
  /** A request to the transports of other instances, sent with each heartbeat. */
  findRequest?(): string | undefined;
  /** A request of another instance's transport. */
  onRequest?(request: string): void;
  listen(channel: string): void;
  unlisten(channel: string): void;
  /** Sent messages aren't received: connections that seem open may be dead. */
  reconnect(): void;
  close(): Promise<void>;
}

/** A message of any channel. */
export type BusItem = { type: string };
