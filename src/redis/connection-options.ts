import type { RedisOptions } from "ioredis";

const COMMAND_TIMEOUT_MS = 1_000;
const CONNECT_TIMEOUT_MS = 2_000;
const RECONNECT_MS_MAX = 1_000;
/** Don't wait for a silent connection when closing it. */
const DISCONNECT_TIMEOUT_MS = 100;

/** Options of the bus's connections. */
export const busOptions: RedisOptions = {
  commandTimeout: COMMAND_TIMEOUT_MS,
  connectTimeout: CONNECT_TIMEOUT_MS,
  disconnectTimeout: DISCONNECT_TIMEOUT_MS,
  // Commands that can't be sent now are dropped; callers don't wait for the server.
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  // After a reconnect, node.ts subscribes each channel again, to know when it is received.
  autoResubscribe: false,
  retryStrategy: (times) => Math.min(times * 50, RECONNECT_MS_MAX) * (0.5 + Math.random() / 2),
};
