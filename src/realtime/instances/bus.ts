import type { Sql } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { type Bus, type Subscriber, sharedChannels } from "../bus.ts";
import { createLocalSubscribers } from "../local-subscribers.ts";
import { type EnvelopeContent, prefixOf, readEnvelope } from "./envelope.ts";
import { createOutbox } from "./outbox.ts";
import { Peers } from "./peers.ts";
import { Positions } from "./positions.ts";
import { createStoredEvents } from "./stored-events.ts";
import { createThrottle } from "./throttle.ts";
import type { Transport, TransportListener } from "./transport.ts";

/** How often an instance sends a heartbeat, and checks that it receives its own. */
const HEARTBEAT_INTERVAL_MS = 500;
/** After more missing own heartbeats than this, an instance assumes that its connections are dead. */
const MISSED_HEARTBEATS_MAX = 3;
/** While the bus is down, the database is polled once per this many heartbeats. */
const POLL_HEARTBEATS = 2;
/** Minimum time between two gap reports to all subscribers. */
const GAP_PAUSE_MS = 1_000;
/** An instance that receives no others for this many heartbeats is alone, and sends nothing. */
const ALONE_HEARTBEATS = 3;
/**
 * At startup, an instance waits at most this long until it is received, and then this long until others have handled its
 * first heartbeat.
 */
const ANNOUNCE_WAIT_MS_MAX = 2_000;
const ANNOUNCE_SETTLE_MS = 50;
/** The channel for heartbeats, in addition to those of the interface. */
export const HEARTBEAT_CHANNEL = "beats";

/**
 * `lost` counts messages published and not sent; `is_new`: the instance asks the others to respond; `is_leaving`: it is
 * shutting down. `wish` is a request from one transport to the others.
 */
type Heartbeat = { type: "beat"; lost: number; is_new?: boolean; is_leaving?: boolean; wish?: string };

export type InstancesBusDependencies = {
  instanceId: string;
  /** Reads stored events while messages don't arrive. */
  sql: Sql;
  log: Log;
  metrics?: Pick<Metrics, "busMessages">;
  /** The name of the server in log lines. */
  server: "Redis" | "Postgres";
};

const shared = new Set<string>(sharedChannels);

/**
 * The bus between instances, over any transport. Delivers locally without delay and batches what was published within a
 * moment. Detects gaps by numbers, dead connections by missing its own heartbeats, and dead instances by missing theirs.
 */
export function createInstancesBus(
  deps: InstancesBusDependencies,
  open: (listener: TransportListener) => Transport,
): Bus {
  const { instanceId, log, metrics, server } = deps;
  const local = createLocalSubscribers(log);
  const stored = createStoredEvents(deps.sql, local);
  const peers = new Peers();
  const positions = new Positions();
  const ownPrefix = prefixOf(instanceId);
  let lost = 0;
  let heartbeats = 0;
  let missedHeartbeats = MISSED_HEARTBEATS_MAX + 1;
  let isClosed = false;
  /** Consecutive heartbeats received: enough time for others to respond. */
  let receivedHeartbeats = 0;
  let state: "starting" | "alive" | "away" = "starting";
  /** Its own heartbeat was received, so the other listeners received it too. */
  const announced = Promise.withResolvers<void>();

  const transport = open({ onEnvelope, onListening });
  const outbox = createOutbox({
    instanceId,
    transport,
    uncounted: HEARTBEAT_CHANNEL,
    onSent: (messages) => metrics?.busMessages.inc({ direction: "out" }, messages),
    onLost(messages) {
      lost += messages;
      metrics?.busMessages.inc({ direction: "dropped" }, messages);
    },
  });
  const notifyGaps = createThrottle(GAP_PAUSE_MS, () => {
    for (const channel of [...local.channels()]) local.notifyGap(channel);
  });

  const isAlive = (): boolean => missedHeartbeats <= MISSED_HEARTBEATS_MAX;
  const isHealthy = (): boolean => isAlive() && transport.isPrompt();
  const isAloneNow = (): boolean => peers.size === 0 && receivedHeartbeats > ALONE_HEARTBEATS;

  function onListening(channel: string): void {
    positions.forget(channel);
    // Others may have joined while nothing was received.
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
    const parcel = readEnvelope(text);
    if (!parcel) {
      log.warn({ channel }, "ignored an invalid message on the bus");
      return;
    }
    onContent(channel, parcel);
  }

  function onContent(channel: string, { from, number, previous, messages }: EnvelopeContent): void {
    if (peers.onReceived(from)) notifyGaps();
    const order = positions.record(channel, from, number, previous);
    if (order === "late") return;
    if (channel === HEARTBEAT_CHANNEL) {
      for (const heartbeat of messages) onHeartbeat(from, heartbeat as Heartbeat);
      return;
    }
    metrics?.busMessages.inc({ direction: "in" }, messages.length);
    if (order === "hole") local.notifyGap(channel);
    local.deliver(channel, messages, true);
  }

  function onHeartbeat(from: string, heartbeat: Heartbeat): void {
    if (heartbeat.is_leaving) {
      peers.remove(from);
      positions.forgetInstance(from);
      local.notifyPeerLost(from);
      return;
    }
    if (heartbeat.wish !== undefined) transport.onRequest?.(heartbeat.wish);
    if (peers.recordLost(from, Number(heartbeat.lost) || 0)) notifyGaps();
    if (heartbeat.is_new) sendHeartbeat({});
  }

  function onOwnHeartbeat(): void {
    missedHeartbeats = 0;
    receivedHeartbeats += 1;
    announced.resolve();
    if (state === "alive") return;
    if (state === "away") log.info(`the bus over ${server} is available again`);
    state = "alive";
  }

  function sendHeartbeat(more: Partial<Heartbeat>): void {
    // Nothing may follow the last heartbeat.
    if (isClosed && !more.is_leaving) return;
    outbox.add(HEARTBEAT_CHANNEL, [
      { type: "beat", lost, wish: transport.findRequest?.(), ...more } satisfies Heartbeat,
    ]);
  }

  const timer = setInterval(() => {
    heartbeats += 1;
    missedHeartbeats += 1;
    sendHeartbeat(state === "alive" ? {} : { is_new: true });
    if (isAlive()) for (const peerId of peers.tick()) forgetPeer(peerId);
    else if (missedHeartbeats % (MISSED_HEARTBEATS_MAX + 1) === 0) {
      if (state === "alive") {
        state = "away";
        log.warn(`the bus over ${server} is unavailable; reading stored events from the database until it returns`);
      }
      receivedHeartbeats = 0;
      transport.reconnect();
    }
    if (!isHealthy() && heartbeats % POLL_HEARTBEATS === 0) checkStoredEvents();
  }, HEARTBEAT_INTERVAL_MS);
  timer.unref();

  function forgetPeer(gone: string): void {
    log.info({ instance_id: gone }, "another instance stopped responding; assuming that it has ended");
    positions.forgetInstance(gone);
    local.notifyPeerLost(gone);
  }

  function checkStoredEvents(): void {
    for (const channel of sharedChannels) local.notifyGap(channel);
    const conversations = [...local.channels()].filter((channel) => !shared.has(channel));
    if (conversations.length === 0) return;
    stored.check(conversations).catch((error) => log.debug({ err: error }, "stored events could not be read"));
  }

  transport.listen(HEARTBEAT_CHANNEL);
  for (const channel of sharedChannels) transport.listen(channel);
  sendHeartbeat({ is_new: true });

  return {
    scope: "instances",
    isHealthy,
    listPeers: () => peers.list(),
    isAlone: () => isHealthy() && isAloneNow(),

    async untilAnnounced() {
      await Promise.race([
        announced.promise.then(() => Bun.sleep(ANNOUNCE_SETTLE_MS)),
        Bun.sleep(ANNOUNCE_WAIT_MS_MAX),
      ]);
    },

    publish(channel, create) {
      const messages = [...create()];
      local.deliver(channel, messages, false);
      if (isClosed) return;
      // A later instance learns from the heartbeats that it has missed something.
      if (isAloneNow()) lost += messages.length;
      else outbox.add(channel, messages);
    },

    subscribe(channel, subscriber) {
      const isFirst = !local.has(channel);
      const remove = local.add(channel, subscriber as Subscriber<never>);
      let isOpen = true;
      if (isFirst && !shared.has(channel)) transport.listen(channel);
      else
        queueMicrotask(() => {
          if (isOpen) subscriber.onGap();
        });
      return () => {
        isOpen = false;
        if (!remove() || shared.has(channel)) return;
        positions.forget(channel);
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
