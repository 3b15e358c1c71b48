import type { Sql } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { type Bus, type Subscriber, sharedChannels } from "../bus.ts";
import { createLocalSubscribers } from "../local-subscribers.ts";
import { beginningOf, type Parcel, readEnvelope } from "./envelope.ts";
import { createOutbox } from "./outbox.ts";
import { Peers } from "./peers.ts";
import { Positions } from "./positions.ts";
import { createStoredEvents } from "./stored-events.ts";
import { createThrottle } from "./throttle.ts";
import type { Transport, TransportListener } from "./transport.ts";

/** How often an instance shows that it is alive, and checks that it receives its own beats. */
const BEAT_MS = 500;
/** Own beats that an instance may miss until its connections count as dead. */
const MISSED_BEATS_MAX = 3;
/** While the bus is down, the database is polled every so many beats. */
const LOOK_BEATS = 2;
/** Minimum time between two gap reports to all subscribers. */
const GAP_PAUSE_MS = 1_000;
/** An instance that receives no others for this many beats is alone, and sends nothing. */
const ALONE_BEATS = 3;
/**
 * At its start an instance waits at most this long until it is received, and this long for others to handle its first beat.
 */
const HEARD_MS_MAX = 2_000;
const TAKEN_MS = 50;
/** The channel of beats, in addition to those of the interface. */
export const BEATS = "beats";

/**
 * `lost` counts messages published and not sent; `is_new`: the instance asks the others to respond; `is_leaving`: it is
 * shutting down. `wish` is a request from one transport to the others.
 */
type Beat = { type: "beat"; lost: number; is_new?: boolean; is_leaving?: boolean; wish?: string };

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
 * moment. Detects gaps by numbers, dead connections by missing its own beats, and dead instances by missing theirs.
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
  const ownBeginning = beginningOf(instanceId);
  let lost = 0;
  let beats = 0;
  let missedBeats = MISSED_BEATS_MAX + 1;
  let isClosed = false;
  /** Consecutive beats received: enough time for others to respond. */
  let heardBeats = 0;
  let state: "starting" | "alive" | "away" = "starting";
  /** A beat of its own came back, so the other listeners received it too. */
  const heard = Promise.withResolvers<void>();

  const transport = open({ onEnvelope, onListening });
  const outbox = createOutbox({
    instanceId,
    transport,
    uncounted: BEATS,
    onSent: (messages) => metrics?.busMessages.inc({ direction: "out" }, messages),
    onLost(messages) {
      lost += messages;
      metrics?.busMessages.inc({ direction: "dropped" }, messages);
    },
  });
  const tellGaps = createThrottle(GAP_PAUSE_MS, () => {
    for (const channel of [...local.channels()]) local.tellGap(channel);
  });

  const isAlive = (): boolean => missedBeats <= MISSED_BEATS_MAX;
  const isHealthy = (): boolean => isAlive() && transport.isPrompt();
  const isAloneNow = (): boolean => peers.size === 0 && heardBeats > ALONE_BEATS;

  function onListening(channel: string): void {
    positions.forget(channel);
    // Others may have joined while nothing was received.
    if (channel === BEATS) heardBeats = 0;
    if (local.has(channel)) local.tellGap(channel);
    else if (channel === BEATS) sendBeat({ is_new: true });
  }

  function onEnvelope(channel: string, text: string): void {
    if (text.startsWith(ownBeginning)) {
      if (channel === BEATS) takeOwnBeat();
      return;
    }
    if (channel !== BEATS && !local.has(channel)) return;
    const parcel = readEnvelope(text);
    if (!parcel) {
      log.warn({ channel }, "ignored an invalid message on the bus");
      return;
    }
    takeParcel(channel, parcel);
  }

  function takeParcel(channel: string, { from, number, previous, messages }: Parcel): void {
    if (peers.hear(from)) tellGaps();
    const place = positions.take(channel, from, number, previous);
    if (place === "late") return;
    if (channel === BEATS) {
      for (const beat of messages) takeBeat(from, beat as Beat);
      return;
    }
    metrics?.busMessages.inc({ direction: "in" }, messages.length);
    if (place === "hole") local.tellGap(channel);
    local.deliver(channel, messages, true);
  }

  function takeBeat(from: string, beat: Beat): void {
    if (beat.is_leaving) {
      peers.remove(from);
      positions.forgetInstance(from);
      local.tellGone(from);
      return;
    }
    if (beat.wish !== undefined) transport.takeWish?.(beat.wish);
    if (peers.takeLost(from, Number(beat.lost) || 0)) tellGaps();
    if (beat.is_new) sendBeat({});
  }

  function takeOwnBeat(): void {
    missedBeats = 0;
    heardBeats += 1;
    heard.resolve();
    if (state === "alive") return;
    if (state === "away") log.info(`the bus over ${server} is available again`);
    state = "alive";
  }

  function sendBeat(more: Partial<Beat>): void {
    // Nothing may follow the goodbye.
    if (isClosed && !more.is_leaving) return;
    outbox.add(BEATS, [{ type: "beat", lost, wish: transport.findWish?.(), ...more } satisfies Beat]);
  }

  const timer = setInterval(() => {
    beats += 1;
    missedBeats += 1;
    sendBeat(state === "alive" ? {} : { is_new: true });
    if (isAlive()) for (const gone of peers.beat()) forgetPeer(gone);
    else if (missedBeats % (MISSED_BEATS_MAX + 1) === 0) {
      if (state === "alive") {
        state = "away";
        log.warn(`the bus over ${server} is unavailable; reading stored events from the database until it returns`);
      }
      heardBeats = 0;
      transport.reconnect();
    }
    if (!isHealthy() && beats % LOOK_BEATS === 0) lookAtStored();
  }, BEAT_MS);
  timer.unref();

  function forgetPeer(gone: string): void {
    log.info({ instance_id: gone }, "another instance stopped responding; assuming that it has ended");
    positions.forgetInstance(gone);
    local.tellGone(gone);
  }

  function lookAtStored(): void {
    for (const channel of sharedChannels) local.tellGap(channel);
    const conversations = [...local.channels()].filter((channel) => !shared.has(channel));
    if (conversations.length === 0) return;
    stored.look(conversations).catch((error) => log.debug({ err: error }, "stored events could not be read"));
  }

  transport.listen(BEATS);
  for (const channel of sharedChannels) transport.listen(channel);
  sendBeat({ is_new: true });

  return {
    reach: "instances",
    isHealthy,
    listPeers: () => peers.list(),
    isAlone: () => isHealthy() && isAloneNow(),

    async untilHeard() {
      await Promise.race([heard.promise.then(() => Bun.sleep(TAKEN_MS)), Bun.sleep(HEARD_MS_MAX)]);
    },

    publish(channel, create) {
      const messages = [...create()];
      local.deliver(channel, messages, false);
      if (isClosed) return;
      // A later instance learns from the beats that it has missed something.
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
      tellGaps.cancel();
      sendBeat({ is_leaving: true });
      await Promise.race([outbox.drain(), Bun.sleep(BEAT_MS)]);
      await transport.close();
    },
  };
}
