import type { RedisOptions } from "ioredis";

const COMMAND_TIMEOUT_MS = 1_000;
const CONNECT_TIMEOUT_MS = 2_000;
const RECONNECT_MS_MAX = 1_000;
/** How long closing waits for an unresponsive connection. */
const DISCONNECT_TIMEOUT_MS = 100;

/** Options for the connections of the bus. */
export const busOptions: RedisOptions = {
  commandTimeout: COMMAND_TIMEOUT_MS,
  connectTimeout: CONNECT_TIMEOUT_MS,
  disconnectTimeout: DISCONNECT_TIMEOUT_MS,
  // Commands that can't be sent immediately fail, so that callers don't wait for the server.
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  // After a reconnect, node.ts itself subscribes to each channel again, so that it knows when it is received.
  autoResubscribe: false,
  retryStrategy: (times) => Math.min(times * 50, RECONNECT_MS_MAX) * (0.5 + Math.random() / 2),
};
