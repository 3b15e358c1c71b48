import type { RedisOptions } from "ioredis";

const COMMAND_TIMEOUT_MS = 1_000;
const CONNECT_TIMEOUT_MS = 2_000;
const RECONNECT_MS_MAX = 1_000;
/** The maximum time to wait for an unresponsive connection when closing it. */
const DISCONNECT_TIMEOUT_MS = 100;

/** The options for the bus's connections. */
export const busOptions: RedisOptions = {
  commandTimeout: COMMAND_TIMEOUT_MS,
  connectTimeout: CONNECT_TIMEOUT_MS,
  disconnectTimeout: DISCONNECT_TIMEOUT_MS,
  // Commands that can't be sent immediately fail, so that callers don't wait for the server.
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  // After a reconnect, node.ts resubscribes, so that it knows when each subscription takes effect.
  autoResubscribe: false,
  retryStrategy: (times) => Math.min(times * 50, RECONNECT_MS_MAX) * (0.5 + Math.random() / 2),
};
