/** Messages of one channel, as they go to other instances: see envelope.ts. */
export type Envelope = { channel: string; text: string };

/** Callbacks of a transport to the bus. */
export type TransportListener = {
  onEnvelope(channel: string, text: string): void;
  /** A channel is heard from now on, for the first time or again: what came before may have been lost. */
  onListening(channel: string): void;
};

/** How envelopes get to other instances, and back to this one. It may lose them, but never changes the order of a channel. */
export interface Transport {
  /** Batches that may be on their way at once. */
  readonly sendsAtOnce: number;
  /** Time between two batches, in which messages are collected. */
  readonly pauseMs: number;
  /** Characters of one batch; a single envelope may have more. */
  readonly batchChars: number;
  /** Whether what others send arrives without being looked for. */
  isPrompt(): boolean;
  /** Replaces messages of a channel before they are sent; absent: all are sent as they are. */
  prepare?(channel: string, messages: BusItem[]): BusItem[];
  /** Fulfils once the server has all of it. @throws if something may not have got there. */
  send(envelopes: readonly Envelope[]): Promise<void>;
  /** What this one asks of the transports of other instances; told with each beat. */
  findWish?(): string | undefined;
  /** A request of another instance's transport. */
  takeWish?(wish: string): void;
  listen(channel: string): void;
  unlisten(channel: string): void;
  /** What is sent does not come back: connections that look open may be dead. */
  reconnect(): void;
  close(): Promise<void>;
}

/** A message of any channel. */
export type BusItem = { type: string };
