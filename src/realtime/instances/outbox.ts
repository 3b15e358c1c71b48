import { writeEnvelope } from "./envelope.ts";
import type { BusItem, Envelope, Transport } from "./transport.ts";

/** Characters waiting for the server or in flight; messages above this are dropped. */
const QUEUED_CHARS_MAX = 8 * 1024 * 1024;
/** Messages of one moment before they are written; above this they are dropped. */
const PENDING_MAX = 50_000;
/** Channels whose last number is remembered; on others a receiver has to assume a gap. */
const CHANNELS_MAX = 20_000;

type Dependencies = {
  instanceId: string;
  transport: Pick<Transport, "sendsAtOnce" | "pauseMs" | "batchChars" | "prepare" | "send">;
  onSent(messages: number): void;
  /** They will not arrive, or may not have. */
  onLost(messages: number): void;
  /** Losing these is harmless: they are repeated. */
  uncounted: string;
};

type Queued = Envelope & { messages: number };

/**
 * Messages to other instances. Those of one moment are sent together, one envelope per channel. Publishing never blocks: if
 * the server is slow or unavailable, memory is bounded, and messages that don't fit are dropped and counted.
 */
export function createOutbox({ instanceId, transport, onSent, onLost, uncounted }: Dependencies) {
  let pending = new Map<string, BusItem[]>();
  let pendingCount = 0;
  const queue: Queued[] = [];
  let queuedChars = 0;
  let sending = 0;
  let isScheduled = false;
  let nextSendAtMs = 0;
  let timer: Timer | undefined;
  let number = 0;
  const numbers = new Map<string, number>();
  const running = new Set<Promise<void>>();

  function takeNumber(channel: string): { number: number; previous: number } {
    number += 1;
    const previous = numbers.get(channel) ?? 0;
    // Moved to the end: the first entry is the least recently used one.
    numbers.delete(channel);
    numbers.set(channel, number);
    if (numbers.size > CHANNELS_MAX) numbers.delete(numbers.keys().next().value ?? channel);
    return { number, previous };
  }

  /** Writes what was published since the last call. */
  function write(): void {
    isScheduled = false;
    const published = pending;
    pending = new Map();
    pendingCount = 0;
    for (const [channel, items] of published) {
      const messages = transport.prepare?.(channel, items) ?? items;
      if (messages.length === 0) continue;
      const text = writeEnvelope({ from: instanceId, ...takeNumber(channel), messages });
      const count = channel === uncounted ? 0 : messages.length;
      if (queuedChars + text.length > QUEUED_CHARS_MAX) {
        onLost(count);
        continue;
      }
      queuedChars += text.length;
      queue.push({ channel, text, messages: count });
    }
    pump();
  }

  function pump(): void {
    while (queue.length > 0 && sending < transport.sendsAtOnce && timer === undefined) {
      const waitMs = nextSendAtMs - performance.now();
      if (waitMs > 0) {
        timer = setTimeout(() => {
          timer = undefined;
          pump();
        }, waitMs);
        return;
      }
      const sent = send(takeBatch());
      running.add(sent);
      void sent.finally(() => running.delete(sent));
    }
  }

  function takeBatch(): Queued[] {
    let chars = 0;
    let count = 0;
    for (const { text } of queue) {
      chars += text.length;
      if (count > 0 && chars > transport.batchChars) break;
      count += 1;
    }
    return queue.splice(0, count);
  }

  async function send(batch: Queued[]): Promise<void> {
    sending += 1;
    const messages = batch.reduce((sum, envelope) => sum + envelope.messages, 0);
    try {
      await transport.send(batch);
      onSent(messages);
    } catch {
      // The transport logs the reason, and the bus that it is unavailable.
      onLost(messages);
    } finally {
      sending -= 1;
      nextSendAtMs = performance.now() + transport.pauseMs;
      for (const { text } of batch) queuedChars -= text.length;
      pump();
    }
  }

  return {
    add(channel: string, messages: readonly BusItem[]): void {
      if (pendingCount + messages.length > PENDING_MAX) {
        onLost(messages.length);
        return;
      }
      pendingCount += messages.length;
      const known = pending.get(channel);
      if (known) known.push(...messages);
      else pending.set(channel, [...messages]);
      if (isScheduled) return;
      isScheduled = true;
      setImmediate(write);
    },

    /** Fulfills once everything has been sent or lost. */
    async drain(): Promise<void> {
      if (isScheduled) write();
      while (running.size > 0 || timer !== undefined) await Promise.race([...running, Bun.sleep(1)]);
    },
  };
}
