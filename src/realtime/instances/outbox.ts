import { serializeEnvelope } from "./envelope.ts";
import type { AnyBusMessage, Envelope, Transport } from "./transport.ts";

/** The maximum number of characters that are queued or in flight. Above this limit, messages are dropped. */
const QUEUED_CHARS_MAX = 8 * 1024 * 1024;
/** The maximum number of messages that wait to be put into envelopes. Above this limit, messages are dropped. */
const PENDING_MESSAGES_MAX = 50_000;
/** The maximum number of channels whose last envelope number is remembered. On all other channels, receivers assume a gap. */
const CHANNELS_MAX = 20_000;

type Dependencies = {
  instanceId: string;
  transport: Pick<Transport, "concurrentSendsMax" | "batchIntervalMs" | "batchCharsMax" | "prepare" | "send">;
  onSent(messageCount: number): void;
  /** Called with the number of messages that were dropped or may not have arrived. */
  onLost(messageCount: number): void;
  /** The channel whose losses aren't counted, because its messages are sent repeatedly. */
  uncountedChannel: string;
};

type QueuedEnvelope = Envelope & { messageCount: number };

/**
 * Creates the queue of messages to other instances. Messages published at about the same time share one envelope per channel.
 * Publishing never blocks. If the server is slow or unavailable, messages above the limits are dropped and counted.
 */
export function createOutbox({ instanceId, transport, onSent, onLost, uncountedChannel }: Dependencies) {
  let pending = new Map<string, AnyBusMessage[]>();
  let pendingCount = 0;
  const queue: QueuedEnvelope[] = [];
  let queuedChars = 0;
  let sendsInFlight = 0;
  let isScheduled = false;
  let nextSendAtMs = 0;
  let timer: Timer | undefined;
  let lastNumber = 0;
  const lastNumbers = new Map<string, number>();
  const activeSends = new Set<Promise<void>>();

  function allocateNumber(channel: string): { number: number; previous: number } {
    lastNumber += 1;
    const previous = lastNumbers.get(channel) ?? 0;
    // Moves the channel to the end, so that the first entry is the least recently used one.
    lastNumbers.delete(channel);
    lastNumbers.set(channel, lastNumber);
    if (lastNumbers.size > CHANNELS_MAX) lastNumbers.delete(lastNumbers.keys().next().value ?? channel);
    return { number: lastNumber, previous };
  }

  /** Moves the pending messages to the queue, in one envelope per channel. */
  function queuePending(): void {
    isScheduled = false;
    const published = pending;
    pending = new Map();
    pendingCount = 0;
    for (const [channel, items] of published) {
      const messages = transport.prepare?.(channel, items) ?? items;
      if (messages.length === 0) continue;
      const text = serializeEnvelope({ senderId: instanceId, ...allocateNumber(channel), messages });
      const count = channel === uncountedChannel ? 0 : messages.length;
      if (queuedChars + text.length > QUEUED_CHARS_MAX) {
        onLost(count);
        continue;
      }
      queuedChars += text.length;
      queue.push({ channel, text, messageCount: count });
    }
    sendQueued();
  }

  function sendQueued(): void {
    while (queue.length > 0 && sendsInFlight < transport.concurrentSendsMax && timer === undefined) {
      const waitMs = nextSendAtMs - performance.now();
      if (waitMs > 0) {
        timer = setTimeout(() => {
          timer = undefined;
          sendQueued();
        }, waitMs);
        return;
      }
      const activeSend = sendBatch(extractBatch());
      activeSends.add(activeSend);
      void activeSend.finally(() => activeSends.delete(activeSend));
    }
  }

  function extractBatch(): QueuedEnvelope[] {
    let chars = 0;
    let count = 0;
    for (const { text } of queue) {
      chars += text.length;
      if (count > 0 && chars > transport.batchCharsMax) break;
      count += 1;
    }
    return queue.splice(0, count);
  }

  async function sendBatch(batch: QueuedEnvelope[]): Promise<void> {
    sendsInFlight += 1;
    const messages = batch.reduce((sum, envelope) => sum + envelope.messageCount, 0);
    try {
      await transport.send(batch);
      onSent(messages);
    } catch {
      // The transport logs the reason, and the bus logs that it is unavailable.
      onLost(messages);
    } finally {
      sendsInFlight -= 1;
      nextSendAtMs = performance.now() + transport.batchIntervalMs;
      for (const { text } of batch) queuedChars -= text.length;
      sendQueued();
    }
  }

  return {
    add(channel: string, messages: readonly AnyBusMessage[]): void {
      if (pendingCount + messages.length > PENDING_MESSAGES_MAX) {
        onLost(messages.length);
        return;
      }
      pendingCount += messages.length;
      const channelMessages = pending.get(channel);
      if (channelMessages) channelMessages.push(...messages);
      else pending.set(channel, [...messages]);
      if (isScheduled) return;
      isScheduled = true;
      setImmediate(queuePending);
    },

    /** Waits until every message has been sent or lost. */
    async drain(): Promise<void> {
      if (isScheduled) queuePending();
      while (activeSends.size > 0 || timer !== undefined) await Promise.race([...activeSends, Bun.sleep(1)]);
    },
  };
}
