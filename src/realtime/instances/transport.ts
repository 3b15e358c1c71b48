/** Messages of one channel in the format that is sent to other instances; see envelope.ts. */
export type Envelope = { channel: string; text: string };

/** The callbacks with which a transport notifies the bus. */
export type TransportListener = {
  onEnvelope(channel: string, text: string): void;
  /** Called when a channel is received, for the first time or again. Earlier messages may have been lost. */
  onListening(channel: string): void;
};

/** Carries envelopes to all instances, including this one. It may lose envelopes, but keeps their order within a channel. */
export interface Transport {
  /** The maximum number of batches in flight. */
  readonly sendsAtOnce: number;
  /** The time between two batches, in which messages are collected. */
  readonly pauseMs: number;
  /** The maximum number of characters per batch. A single envelope may be longer. */
  readonly batchChars: number;
  /** Returns whether messages are pushed to this instance, as opposed to polled. */
  isPrompt(): boolean;
  /** Replaces messages of a channel before they are sent; absent: messages are sent unchanged. */
  prepare?(channel: string, messages: BusItem[]): BusItem[];
  /** Sends envelopes; fulfills once the server has them all. @throws if one may not have arrived. */
  send(envelopes: readonly Envelope[]): Promise<void>;
  /** Returns a request to other instances' transports, which is sent with each heartbeat. */
  findRequest?(): string | undefined;
  /** Handles a request from another instance's transport. */
  onRequest?(request: string): void;
  listen(channel: string): void;
  unlisten(channel: string): void;
  /** Opens new connections. Called if sent messages aren't received, because connections that seem open may be dead. */
  reconnect(): void;
  close(): Promise<void>;
}

/** A message on any channel. */
export type BusItem = { type: string };
