import { connectPubSub } from "../redis/pub-sub.ts";
import { describeReason } from "../redis/reason.ts";
import { type Bus, sharedChannels } from "./bus.ts";
import { createInstancesBus, HEARTBEAT_CHANNEL, type InstancesBusDependencies } from "./instances/bus.ts";
import type { Transport, TransportListener } from "./instances/transport.ts";

/** Batches in flight, and the size of each: bounds what Redis has not accepted yet. */
const SENDS_AT_ONCE = 4;
const BATCH_CHARS = 512 * 1024;

/** Channels that every instance subscribes to. */
const sharedByAll = new Set<string>([...sharedChannels, HEARTBEAT_CHANNEL]);

type Dependencies = Omit<InstancesBusDependencies, "server"> & {
  url: string;
  /** The same for all instances of this Parley, and unique to it: several may share a Redis. */
  deployment: string;
};

/** The bus over Redis or Valkey: one channel for each conversation with listeners, and the shared channels. */
export function createRedisBus({ url, deployment, ...deps }: Dependencies): Bus {
  const prefix = `parley:${deployment}:`;
  return createInstancesBus({ ...deps, server: "Redis" }, (listener) => openTransport(url, prefix, listener, deps));
}

function openTransport(
  url: string,
  prefix: string,
  { onEnvelope, onListening }: TransportListener,
  { log }: Pick<Dependencies, "log">,
): Transport {
  const strip = (channel: string) => channel.slice(prefix.length);
  const pubSub = connectPubSub(
    { url, isSharded: (channel) => !sharedByAll.has(strip(channel)) },
    {
      onMessage: (channel, text) => onEnvelope(strip(channel), text),
      onSubscribed: (channel) => onListening(strip(channel)),
      // The bus itself logs once that Redis is unavailable; this logs why.
      onError: (error) => log.debug({ reason: describeReason(error) }, "the bus has a problem with Redis"),
    },
  );
  return {
    sendsAtOnce: SENDS_AT_ONCE,
    pauseMs: 0,
    batchChars: BATCH_CHARS,
    isPrompt: pubSub.isConnected,
    send: (envelopes) => pubSub.publish(envelopes.map(({ channel, text }) => ({ channel: prefix + channel, text }))),
    listen: (channel) => pubSub.subscribe(prefix + channel),
    unlisten: (channel) => pubSub.unsubscribe(prefix + channel),
    reconnect: pubSub.reconnect,
    close: pubSub.close,
  };
}
