/** A serialized batch of messages on one channel (envelope.ts). */
export type Envelope = { channel: string; text: string };

/** A transport's callbacks to the bus. */
export type TransportListener = {
  onEnvelope(channel: string, text: string): void;
  /** Called when messages on a channel start to arrive, initially or after an interruption. Earlier messages may have been lost. */
  onListening(channel: string): void;
};

/** Sends envelopes to all instances, including this one. It may lose envelopes, but preserves their order within a channel. */
export interface Transport {
  /** The maximum number of batches in flight. */
  readonly concurrentSendsMax: number;
  /** The time between two batches, during which messages are collected. */
  readonly batchIntervalMs: number;
  /** The maximum number of characters per batch. A single envelope may be longer. */
  readonly batchCharsMax: number;
  /** Returns whether this instance currently receives messages without polling. */
  isPushing(): boolean;
  /** Changes a channel's messages before they are sent. If absent, they are sent unchanged. */
  prepare?(channel: string, messages: AnyBusMessage[]): AnyBusMessage[];
  /** Sends envelopes and resolves once the server has accepted all of them. @throws if any of them may be lost. */
  send(envelopes: readonly Envelope[]): Promise<void>;
  /** Returns a request to other instances' transports. It is sent with each heartbeat. */
  getRequest?(): string | undefined;
  /** Called with a request from another instance's transport. */
  onRequest?(request: string): void;
  listen(channel: string): void;
  unlisten(channel: string): void;
  /** Opens new connections. Called if the instance's own messages don't arrive, which suggests that the connections are dead. */
  reconnect(): void;
  close(): Promise<void>;
}

/** A message on any channel. */
export type AnyBusMessage = { type: string };
