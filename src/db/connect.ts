import { setTimeout as sleep } from "node:timers/promises";
import { type Config, ConfigError } from "../config.ts";
import { abortable } from "../lib/abortable.ts";
import type { Log } from "../lib/log.ts";
import { type Database, type DatabaseOptions, openDatabase, SIDE_CONNECTIONS_MAX } from "./client.ts";
import { DataDirectoryInUseError, findRunningPostgres, startEmbeddedPostgres } from "./embedded.ts";
import { LANES_WAITING_MAX } from "./group-commit.ts";

/** Longest wait for running queries when the pool closes. */
const CLOSE_TIMEOUT_S = 5;
/** Group commits of sends, and of the ends of answers: one connection for the batches of each, and those of its lanes. */
const COMMIT_CONNECTIONS_MAX = 2 * (1 + LANES_WAITING_MAX);
/** What an instance opens at most beside DATABASE_POOL_SIZE. */
export const FURTHER_CONNECTIONS_MAX = SIDE_CONNECTIONS_MAX + COMMIT_CONNECTIONS_MAX;
const RETRY_DELAY_MIN_MS = 250;
const RETRY_DELAY_MAX_MS = 5_000;

export type Connected = {
  database: Database;
  /** `embedded`: the Postgres that Parley carries; `server`: the one behind `DATABASE_URL`. */
  kind: "embedded" | "server";
  /** Ends the pool within 5 seconds, then the embedded Postgres if this process started it. May be called twice. */
  close(): Promise<void>;
};

type DatabaseConfig = Pick<Config, "DATABASE_URL" | "DATABASE_POOL_SIZE" | "DATA_DIR">;

export type ConnectOptions = {
  /** For short commands: when a living Parley has started the embedded Postgres, use that one beside it. */
  canJoin?: boolean;
};

/**
 * Opens the database that the configuration names: `DATABASE_URL`, or without it the embedded Postgres, which is
 * started. It does not wait for a server that is away; see `waitForDatabase`.
 * @throws ConfigError when `DATABASE_URL` is malformed.
 * @throws DataDirectoryInUseError when another Parley lives on `DATA_DIR` (not with `canJoin`).
 * @throws EmbeddedPostgresError when the embedded Postgres cannot start.
 */
export async function connectDatabase(
  config: DatabaseConfig,
  log: Log,
  options: ConnectOptions = {},
): Promise<Connected> {
  const poolSize = config.DATABASE_POOL_SIZE;
  if (config.DATABASE_URL) return connect("server", { target: { url: config.DATABASE_URL }, poolSize });
  const { stop, ...target } = await startOrJoin(config, log, options);
  return connect("embedded", { target, poolSize }, stop);
}

async function startOrJoin(config: DatabaseConfig, log: Log, { canJoin = false }: ConnectOptions) {
  const dataDir = config.DATA_DIR;
  try {
    const poolSize = config.DATABASE_POOL_SIZE + FURTHER_CONNECTIONS_MAX;
    return await startEmbeddedPostgres({ dataDir, poolSize, log });
  } catch (error) {
    const running = canJoin && error instanceof DataDirectoryInUseError ? findRunningPostgres(dataDir) : null;
    if (running === null) throw error;
    return running;
  }
}

function connect(kind: Connected["kind"], options: DatabaseOptions, stop?: () => Promise<void>): Connected {
  const database = openPool(options);
  let closing: Promise<void> | undefined;
  const close = async () => {
    await database.end({ timeout: CLOSE_TIMEOUT_S });
    await stop?.();
  };
  return {
    database,
    kind,
    close() {
      closing ??= close();
      return closing;
    },
  };
}

/** What the driver says about a malformed URL contains the URL, with its password. */
function openPool(options: DatabaseOptions): Database {
  try {
    return openDatabase(options);
  } catch {
    throw new ConfigError([
      "DATABASE_URL: the value is not a URL (special characters of a password are percent-encoded).",
    ]);
  }
}

/**
 * Waits until the database answers, however long that takes, and logs each try that failed.
 * @throws the signal's reason once it is aborted.
 */
export async function waitForDatabase(database: Database, log: Log, signal: AbortSignal): Promise<void> {
  for (let delayMs = RETRY_DELAY_MIN_MS; ; delayMs = Math.min(delayMs * 2, RETRY_DELAY_MAX_MS)) {
    signal.throwIfAborted();
    try {
      await abortable(database`select 1`, signal);
      return;
    } catch (error) {
      signal.throwIfAborted();
      log.warn({ reason: describe(error), retry_in_ms: delayMs }, "the database does not answer; trying again");
    }
    await sleep(delayMs, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}

/** The driver's errors name host, port, user and database, never the password; the connection string is not in them. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = "code" in error ? ` (${error.code})` : "";
  return `${error.message}${code}`;
}
