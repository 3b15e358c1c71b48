import { Redis } from "ioredis";
import type { Log } from "../lib/log.ts";

/** A command that is not answered in this time is given up; what asked goes on without Redis. */
const COMMAND_TIMEOUT_MS = 200;
const CONNECT_TIMEOUT_MS = 2_000;
const RECONNECT_MS_MAX = 2_000;
/** How often a sign of life is asked for. */
const PROBE_INTERVAL_MS = 1_000;

export type RedisLink = {
  client: Redis;
  /** Whether it answered lately. */
  isAlive(): boolean;
  close(): Promise<void>;
};

/**
 * Connects to Redis, and keeps trying: it may be away at the start and at any time after. Nothing waits for it longer than
 * a fifth of a second, and nothing at all while it is known to be away. The log gets one line for each change.
 */
export function connectRedis(url: string, log: Log): RedisLink {
  const client = new Redis(url, {
    commandTimeout: COMMAND_TIMEOUT_MS,
    connectTimeout: CONNECT_TIMEOUT_MS,
    // What cannot be asked now is not asked later: by then it has been decided without.
    enableOfflineQueue: false,
    // What is asked in one turn goes out together; a quarter less CPU under load.
    enableAutoPipelining: true,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    retryStrategy: (times) => Math.min(times * 100, RECONNECT_MS_MAX),
  });
  let state: "unknown" | "alive" | "away" = "unknown";
  let isProbing = false;

  function change(next: "alive" | "away", reason?: string): void {
    if (next === state) return;
    // Only a return is worth a line; that it is there at the start is not.
    if (next === "away") log.warn({ reason }, "Redis is away; limits are counted by this instance alone meanwhile");
    else if (state === "away") log.info("Redis is back");
    state = next;
  }

  async function probe(): Promise<void> {
    if (isProbing) return;
    isProbing = true;
    try {
      await client.ping();
      change("alive");
    } catch (error) {
      change("away", describeReason(error));
      // A connection that has gone silent does not come to an end by itself.
      if (client.status === "ready") client.disconnect(true);
    } finally {
      isProbing = false;
    }
  }

  client.on("ready", probe);
  client.on("close", () => change("away", "the connection has ended"));
  client.on("error", (error: unknown) => change("away", describeReason(error)));
  const timer = setInterval(probe, PROBE_INTERVAL_MS);
  timer.unref();

  return {
    client,
    isAlive: () => state === "alive",
    async close() {
      clearInterval(timer);
      client.removeAllListeners("close");
      client.disconnect();
    },
  };
}

/** A URL may hold a password, so that only what is known of errors is told. */
function describeReason(error: unknown): string {
  if (!(error instanceof Error)) return "unknown";
  const { code } = error as { code?: unknown };
  if (typeof code === "string") return code;
  if (/timed out/i.test(error.message)) return "no answer in time";
  return /^(?:NOAUTH|WRONGPASS|ERR|LOADING|NOPERM)\b/.exec(error.message)?.[0] ?? error.name;
}
