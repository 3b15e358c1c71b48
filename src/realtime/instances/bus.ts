import type { Sql } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { type Bus, type Subscriber, sharedChannels } from "../bus.ts";
import { createLocalSubscribers } from "../local-subscribers.ts";
import { createEnvelopePrefix, type EnvelopeContent, parseEnvelope } from "./envelope.ts";
import { EnvelopeNumbers } from "./envelope-numbers.ts";
import { OtherInstances } from "./other-instances.ts";
import { createOutbox } from "./outbox.ts";
import { createStoredEventPoller } from "./stored-event-poller.ts";
import { createThrottle } from "./throttle.ts";
import type { Transport, TransportListener } from "./transport.ts";

/** The interval at which an instance sends heartbeats and checks that it receives its own. */
const HEARTBEAT_INTERVAL_MS = 500;
/** If an instance misses more than this many of its own heartbeats, it assumes that its connections are dead. */
const MISSED_HEARTBEATS_MAX = 3;
/** The number of heartbeats between database polls while the bus is down. */
const POLL_HEARTBEATS = 2;
/** The minimum interval between gap notifications to all subscribers. */
const GAP_INTERVAL_MS = 1_000;
/**
 * If an instance receives nothing from other instances for this many heartbeats, it assumes that it is alone and sends no messages.
 */
const ALONE_HEARTBEATS = 3;
/** The maximum time an instance waits at startup for its first heartbeat to arrive. */
const ANNOUNCE_WAIT_MS_MAX = 2_000;
/** After its first heartbeat has arrived, an instance waits this long for the other instances to process it. */
const ANNOUNCE_SETTLE_MS = 50;
export const HEARTBEAT_CHANNEL = "beats";

/**
 * `lost` is the number of messages that were published but not sent. If `is_new` is true, the other instances respond with a
 * heartbeat. If `is_leaving` is true, the instance is shutting down. `wish` is a request to the other instances' transports.
 */
type Heartbeat = { type: "beat"; lost: number; is_new?: boolean; is_leaving?: boolean; wish?: string };

export type InstancesBusDependencies = {
  instanceId: string;
  /** Used to read stored events while messages don't arrive. */
  sql: Sql;
  log: Log;
  metrics?: Pick<Metrics, "busMessages">;
  /** The name of the server in log lines. */
  server: "Redis" | "Postgres";
};

const sharedChannelNames = new Set<string>(sharedChannels);

/**
 * Creates a bus between instances over any transport. It delivers messages to local subscribers immediately, and sends them to
 * other instances in batches. It detects gaps by envelope numbers. It detects dead connections and lost instances by missing
 * heartbeats.
 */
export function createInstancesBus(
  deps: InstancesBusDependencies,
  openTransport: (listener: TransportListener) => Transport,
): Bus {
  const { instanceId, log, metrics, server } = deps;
  const local = createLocalSubscribers(log);
  const storedEventPoller = createStoredEventPoller(deps.sql, local);
  const otherInstances = new OtherInstances();
  const envelopeNumbers = new EnvelopeNumbers();
  const ownPrefix = createEnvelopePrefix(instanceId);
  let lostMessages = 0;
  let heartbeats = 0;
  let missedHeartbeats = MISSED_HEARTBEATS_MAX + 1;
  let isClosed = false;
  /** The number of own heartbeats received in a row. After a few, the other instances have had time to respond. */
  let receivedHeartbeats = 0;
  let state: "starting" | "up" | "down" = "starting";
  /** Resolves when this instance has received its own heartbeat, which means that the other instances have received it too. */
  const announcement = Promise.withResolvers<void>();

  const transport = openTransport({ onEnvelope, onListening });
  const outbox = createOutbox({
    instanceId,
    transport,
    uncountedChannel: HEARTBEAT_CHANNEL,
    onSent: (messages) => metrics?.busMessages.inc({ direction: "out" }, messages),
    onLost(messages) {
      lostMessages += messages;
      metrics?.busMessages.inc({ direction: "dropped" }, messages);
    },
  });
  const notifyGaps = createThrottle(GAP_INTERVAL_MS, () => {
    for (const channel of [...local.listChannels()]) local.notifyGap(channel);
  });

  const isAlive = (): boolean => missedHeartbeats <= MISSED_HEARTBEATS_MAX;
  const isHealthy = (): boolean => isAlive() && transport.isPushing();
  const isAloneNow = (): boolean => otherInstances.size === 0 && receivedHeartbeats > ALONE_HEARTBEATS;

  function onListening(channel: string): void {
    envelopeNumbers.forget(channel);
    // Other instances may have started while nothing was received.
    if (channel === HEARTBEAT_CHANNEL) receivedHeartbeats = 0;
    if (local.has(channel)) local.notifyGap(channel);
    else if (channel === HEARTBEAT_CHANNEL) sendHeartbeat({ is_new: true });
  }

  function onEnvelope(channel: string, text: string): void {
    if (text.startsWith(ownPrefix)) {
      if (channel === HEARTBEAT_CHANNEL) onOwnHeartbeat();
      return;
    }
    if (channel !== HEARTBEAT_CHANNEL && !local.has(channel)) return;
    const content = parseEnvelope(text);
    if (!content) {
      log.warn({ channel }, "ignored an invalid message on the bus");
      return;
    }
    onEnvelopeContent(channel, content);
  }

  function onEnvelopeContent(channel: string, { senderId, number, previous, messages }: EnvelopeContent): void {
    if (otherInstances.onReceived(senderId)) notifyGaps();
    const order = envelopeNumbers.record(channel, senderId, number, previous);
    if (order === "repeated") return;
    if (channel === HEARTBEAT_CHANNEL) {
      for (const heartbeat of messages) onHeartbeat(senderId, heartbeat as Heartbeat);
      return;
    }
    metrics?.busMessages.inc({ direction: "in" }, messages.length);
    if (order === "gap") local.notifyGap(channel);
    local.deliver(channel, messages, true);
  }

  function onHeartbeat(senderId: string, heartbeat: Heartbeat): void {
    if (heartbeat.is_leaving) {
      otherInstances.remove(senderId);
      envelopeNumbers.forgetInstance(senderId);
      local.notifyInstanceLost(senderId);
      return;
    }
    if (heartbeat.wish !== undefined) transport.onRequest?.(heartbeat.wish);
    if (otherInstances.recordLostMessages(senderId, Number(heartbeat.lost) || 0)) notifyGaps();
    if (heartbeat.is_new) sendHeartbeat({});
  }

  function onOwnHeartbeat(): void {
    missedHeartbeats = 0;
    receivedHeartbeats += 1;
    announcement.resolve();
    if (state === "up") return;
    if (state === "down") log.info(`the bus over ${server} is available again`);
    state = "up";
  }

  function sendHeartbeat(extraFields: Partial<Heartbeat>): void {
    // The heartbeat that announces the shutdown must be the last.
    if (isClosed && !extraFields.is_leaving) return;
    outbox.add(HEARTBEAT_CHANNEL, [
      { type: "beat", lost: lostMessages, wish: transport.getRequest?.(), ...extraFields } satisfies Heartbeat,
    ]);
  }

  const timer = setInterval(() => {
    heartbeats += 1;
    missedHeartbeats += 1;
    sendHeartbeat(state === "up" ? {} : { is_new: true });
    if (isAlive()) for (const lostId of otherInstances.tick()) forgetInstance(lostId);
    else if (missedHeartbeats % (MISSED_HEARTBEATS_MAX + 1) === 0) {
      if (state === "up") {
        state = "down";
        log.warn(`the bus over ${server} is unavailable; reading stored events from the database until it returns`);
      }
      receivedHeartbeats = 0;
      transport.reconnect();
    }
    if (!isHealthy() && heartbeats % POLL_HEARTBEATS === 0) checkStoredEvents();
  }, HEARTBEAT_INTERVAL_MS);
  timer.unref();

  function forgetInstance(lostId: string): void {
    log.info({ instance_id: lostId }, "another instance stopped responding; assuming it has stopped");
    envelopeNumbers.forgetInstance(lostId);
    local.notifyInstanceLost(lostId);
  }

  function checkStoredEvents(): void {
    for (const channel of sharedChannels) local.notifyGap(channel);
    const conversations = [...local.listChannels()].filter((channel) => !sharedChannelNames.has(channel));
    if (conversations.length === 0) return;
    storedEventPoller
      .check(conversations)
      .catch((error) => log.debug({ err: error }, "stored events could not be read"));
  }

  transport.listen(HEARTBEAT_CHANNEL);
  for (const channel of sharedChannels) transport.listen(channel);
  sendHeartbeat({ is_new: true });

  return {
    scope: "instances",
    isHealthy,
    listOtherInstances: () => otherInstances.list(),
    isAlone: () => isHealthy() && isAloneNow(),

    async waitUntilAnnounced() {
      await Promise.race([
        announcement.promise.then(() => Bun.sleep(ANNOUNCE_SETTLE_MS)),
        Bun.sleep(ANNOUNCE_WAIT_MS_MAX),
      ]);
    },

    publish(channel, createMessages) {
      const messages = [...createMessages()];
      local.deliver(channel, messages, false);
      if (isClosed) return;
      // If another instance has just started, the number of lost messages in the next heartbeat tells it that it has missed some.
      if (isAloneNow()) lostMessages += messages.length;
      else outbox.add(channel, messages);
    },

    subscribe(channel, subscriber) {
      const isFirst = !local.has(channel);
      const remove = local.add(channel, subscriber as Subscriber<never>);
      let isOpen = true;
      if (isFirst && !sharedChannelNames.has(channel)) transport.listen(channel);
      else
        queueMicrotask(() => {
          if (isOpen) subscriber.onGap();
        });
      return () => {
        isOpen = false;
        if (!remove() || sharedChannelNames.has(channel)) return;
        envelopeNumbers.forget(channel);
        transport.unlisten(channel);
      };
    },

    async close() {
      if (isClosed) return;
      isClosed = true;
      clearInterval(timer);
      notifyGaps.cancel();
      sendHeartbeat({ is_leaving: true });
      await Promise.race([outbox.drain(), Bun.sleep(HEARTBEAT_INTERVAL_MS)]);
      await transport.close();
    },
  };
}
