import { describeRedisError } from "../redis/describe-error.ts";
import { connectPubSub } from "../redis/pub-sub.ts";
import { type Bus, sharedChannels } from "./bus.ts";
import { createInstancesBus, HEARTBEAT_CHANNEL, type InstancesBusDependencies } from "./instances/bus.ts";
import type { Transport, TransportListener } from "./instances/transport.ts";

/** Maximum number of batches of bus messages that Redis hasn't accepted yet. */
const CONCURRENT_SENDS_MAX = 4;
/** Maximum length of a batch of bus messages. */
const BATCH_CHARS_MAX = 512 * 1024;

/** The channels to which every instance subscribes. */
const globalChannels = new Set<string>([...sharedChannels, HEARTBEAT_CHANNEL]);

type Dependencies = Omit<InstancesBusDependencies, "server"> & {
  url: string;
  /** The deployment's id, which all its instances share. Several deployments may use the same Redis. */
  deployment: string;
};

/** Creates the bus over Redis or Valkey. Each conversation with listeners has its own channel. */
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
  const removePrefix = (channel: string) => channel.slice(prefix.length);
  const pubSub = connectPubSub(
    { url, isSharded: (channel) => !globalChannels.has(removePrefix(channel)) },
    {
      onMessage: (channel, text) => onEnvelope(removePrefix(channel), text),
      onSubscribed: (channel) => onListening(removePrefix(channel)),
      // At debug level, because the bus itself logs once that Redis is unavailable.
      onError: (error) => log.debug({ reason: describeRedisError(error) }, "Redis error on the bus"),
    },
  );
  return {
    concurrentSendsMax: CONCURRENT_SENDS_MAX,
    batchIntervalMs: 0,
    batchCharsMax: BATCH_CHARS_MAX,
    isPushing: pubSub.isConnected,
    send: (envelopes) => pubSub.publish(envelopes.map(({ channel, text }) => ({ channel: prefix + channel, text }))),
    listen: (channel) => pubSub.subscribe(prefix + channel),
    unlisten: (channel) => pubSub.unsubscribe(prefix + channel),
    reconnect: pubSub.reconnect,
    close: pubSub.close,
  };
}
