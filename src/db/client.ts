import { join } from "node:path";
import postgres from "postgres";
import { createId } from "../lib/id.ts";
import { Problem } from "../lib/problem.ts";
import { isLockConflict, markAsDatabaseError } from "./errors.ts";
import { createPlaces, createTurns } from "./turns.ts";

export * from "./errors.ts";

/** A connection pool, or the connection of a running transaction: every query function takes one first. */
export type Sql = postgres.Sql<{ bigint: number }> | postgres.TransactionSql<{ bigint: number }>;
export type Database = postgres.Sql<{ bigint: number }>;

type SocketTarget = { socketDirectory: string; user: string; database?: string };

export type DatabaseOptions = {
  /** Connection string of a server, or the socket directory of the embedded one. */
  target: { url: string } | SocketTarget;
  poolSize: number;
  /** Closes connections that nobody has used for so long, in seconds; 0: they stay; absent: after MAIN_IDLE_TIMEOUT_S. */
  idleTimeoutS?: number;
  /** Statements that run longer are cancelled; absent: after STATEMENT_TIMEOUT_MS. */
  statementTimeoutMs?: number;
  /** After what silence Postgres takes back the locks of this client; absent: SILENCE. */
  silence?: Silence;
};

/** How long Postgres bears with a client that is frozen, or whose host is gone. */
export type Silence = {
  /** Inside a transaction, between two statements. */
  inTransactionMs: number;
  /** While it takes nothing of what it is sent, which no other timeout of Postgres covers. */
  inResultMs: number;
};

/** So that a frozen instance gives back its locks; inside a transaction sooner than others give up on them (LANE_TIMEOUT_MS). */
export const SILENCE: Silence = { inTransactionMs: 8_000, inResultMs: 10_000 };
/** Connections of a dead host are noticed within 30 s, on both ends. */
const KEEPALIVE_S = 10;
const KEEPALIVE_INTERVAL_S = 5;
const KEEPALIVE_COUNT = 4;
/**
 * How long connections of the main pool stay open unused. What a peak has opened is given back: each connection costs the
 * server a process, and instances share its `max_connections`. The connection used last takes the next query
 * (patches/postgres/speed-warmest-connection.patch), so those beyond need become idle, and one stays warm. A connection of a
 * transaction, or one that is reserved, is not idle, however long it is silent.
 */
const MAIN_IDLE_TIMEOUT_S = 300;
/** How long connections of a side pool stay open unused. */
const SIDE_IDLE_TIMEOUT_S = 30;

/** How long a statement waits for a lock. */
const LOCK_TIMEOUT_MS = 2_000;
/** The same for the first try of a transaction: locks of healthy transactions are gone by then. */
const FIRST_LOCK_TIMEOUT_MS = 50;
/** Transactions at the same time: those of the first try, and those that wait for rows known to be locked. */
const FIRST_TRIES_MAX = 4;
const LOCKED_TRIES_MAX = 3;
/** Transactions of one key that may wait for each other. */
const TURNS_WAITING_MAX = 1_000;
/** For look-ups of callers, leases and health checks. */
const RESERVED_POOL_SIZE = 3;
/** What an instance opens at most beside its main pool, without group commits (group-commit.ts). */
export const SIDE_CONNECTIONS_MAX = FIRST_TRIES_MAX + LOCKED_TRIES_MAX + RESERVED_POOL_SIZE;

/** A statement that runs longer than this is cancelled by Postgres, so that no request can hold a connection. */
const STATEMENT_TIMEOUT_MS = 30_000;
const CONNECT_TIMEOUT_S = 10;
/**
 * Pause of a connection that failed before it tries again. The driver's own grows to 20 seconds, and its queries wait
 * for it; with this one they fail soon, and work again soon after the database does.
 */
const RECONNECT_PAUSE_S = 0.1;

/** The same for all connections of this process, and another one in each: so an instance can count its own. */
const APPLICATION_NAME = `parley ${createId().slice(-12)}`;

/** What belongs to a database beside its main pool. */
type Sides = { options: DatabaseOptions; pools: Set<SidePool>; reserved: SidePool; transactions: Transactions };
type SidePool = { open(): Database; close(): Promise<void> };
type Transactions = { run<T>(work: (sql: Sql) => Promise<T>, key: string | undefined): Promise<T> };
const sidesOf = new WeakMap<Database, Sides>();

/**
 * Opens the main pool, which is for reads, and for writes that wait for no row; connections are made when first needed.
 * `end` closes its side pools as well. `bigint` columns are numbers (exact up to 2^53).
 */
export function openDatabase(options: DatabaseOptions): Database {
  const database = openPool(options);
  const pools = new Set<SidePool>();
  const addPool = (poolSize: number) => {
    const pool = createPool({ ...options, poolSize, idleTimeoutS: SIDE_IDLE_TIMEOUT_S });
    pools.add(pool);
    return pool;
  };
  const transactions = createTransactions(addPool(FIRST_TRIES_MAX + LOCKED_TRIES_MAX));
  sidesOf.set(database, { options, pools, reserved: addPool(RESERVED_POOL_SIZE), transactions });
  const end = database.end;
  database.end = async (timeout) => void (await Promise.all([end(timeout), ...[...pools].map(({ close }) => close())]));
  return database;
}

function createPool(options: DatabaseOptions): SidePool {
  let pool: Database | undefined;
  return {
    open() {
      pool ??= openPool(options);
      return pool;
    },
    async close() {
      await pool?.end({ timeout: 1 });
    },
  };
}

/**
 * A further, small pool on the same database, for work that may wait for locks: it takes no connection that others need.
 * It is opened at its first use, and its connections are closed when nobody uses them. `close` ends it after what is
 * running, at most a second later.
 */
export function createSidePool(
  database: Database,
  poolSize: number,
  {
    idleTimeoutS = SIDE_IDLE_TIMEOUT_S,
    statementTimeoutMs,
  }: Pick<DatabaseOptions, "idleTimeoutS" | "statementTimeoutMs"> = {},
): SidePool {
  const sides = sidesOf.get(database);
  if (!sides) throw new Error("The pool was not opened by openDatabase.");
  const pool = createPool({
    ...sides.options,
    poolSize,
    idleTimeoutS,
    ...(statementTimeoutMs && { statementTimeoutMs }),
  });
  sides.pools.add(pool);
  return pool;
}

/**
 * Connections that are left when the main pool is exhausted. For short statements that wait for no row, since the driver
 * sends the next statement after one that is still running.
 */
export const getReservedPool = (database: Database): Database => sidesOf.get(database)?.reserved.open() ?? database;

function openPool({
  target,
  poolSize,
  idleTimeoutS = MAIN_IDLE_TIMEOUT_S,
  statementTimeoutMs = STATEMENT_TIMEOUT_MS,
  silence = SILENCE,
}: DatabaseOptions): Database {
  const options: postgres.Options<{ bigint: postgres.PostgresType<number> }> = {
    max: poolSize,
    connect_timeout: CONNECT_TIMEOUT_S,
    idle_timeout: idleTimeoutS,
    keep_alive: KEEPALIVE_S,
    max_lifetime: null,
    backoff: () => (0.5 + Math.random() / 2) * RECONNECT_PAUSE_S,
    onnotice: () => {},
    connection: {
      application_name: APPLICATION_NAME,
      statement_timeout: statementTimeoutMs,
      lock_timeout: LOCK_TIMEOUT_MS,
      idle_in_transaction_session_timeout: silence.inTransactionMs,
      tcp_keepalives_idle: KEEPALIVE_S,
      tcp_keepalives_interval: KEEPALIVE_INTERVAL_S,
      tcp_keepalives_count: KEEPALIVE_COUNT,
      tcp_user_timeout: silence.inResultMs,
    },
    types: {
      bigint: {
        to: 20,
        from: [20],
        parse: (text: string) => Number(text),
        serialize: (value: number) => String(value),
      },
    },
  };
  const pool = "url" in target ? postgres(target.url, options) : postgres({ ...options, ...mapToSocket(target) });
  const reserve = pool.reserve;
  pool.reserve = async () => {
    try {
      return await reserve();
    } catch (error) {
      markAsDatabaseError(error);
      throw error;
    }
  };
  return pool;
}

/** Named in full, since the driver fills gaps from PGHOST, PGPORT and the like. */
const mapToSocket = ({ socketDirectory, user, database = "parley" }: SocketTarget) => ({
  path: join(socketDirectory, ".s.PGSQL.5432"),
  user,
  database,
  ssl: false,
});

/**
 * Runs `work` in one transaction: all of it is committed when the promise fulfils, nothing when it rejects. Everything that
 * may wait for a row runs in here, single statements as well: the transaction has a connection of its own, none of the main
 * pool. `work` runs again when a row was locked.
 * @param key names the row that many requests may wait for, such as `user:<id>`, or the id of a conversation. Transactions
 * of the same key wait for their turn without a connection; if the row stays locked, those that wait try it only shortly.
 * @throws Problem `overloaded` when too many wait; a lock timeout of the database; whatever `work` throws.
 */
export async function withTransaction<T>(database: Database, work: (sql: Sql) => Promise<T>, key?: string): Promise<T> {
  const sides = sidesOf.get(database);
  return sides ? sides.transactions.run(work, key) : ((await database.begin(work)) as T);
}

/**
 * The first try waits for locks so shortly that it delays nobody. Only then it is known that a row is locked, and the next
 * try waits for it on one of the connections for such rows: however many there are, they leave the others alone.
 */
function createTransactions(pool: SidePool): Transactions {
  const firstTries = createPlaces(FIRST_TRIES_MAX);
  const lockedTries = createPlaces(LOCKED_TRIES_MAX);
  const turns = createTurns(TURNS_WAITING_MAX);

  async function begin<T>(work: (sql: Sql) => Promise<T>, lockTimeoutMs: number): Promise<T> {
    const result = await pool.open().begin(async (sql) => {
      // Sent together with the first statement of the work.
      const limited = sql`select set_config('lock_timeout', ${`${lockTimeoutMs}ms`}, true)`.execute();
      const [result] = await Promise.all([work(sql), limited]);
      return result;
    });
    return result as T;
  }

  async function runTries<T>(work: (sql: Sql) => Promise<T>, wasLocked: boolean): Promise<T> {
    try {
      return await firstTries.run(() => begin(work, FIRST_LOCK_TIMEOUT_MS));
    } catch (error) {
      if (wasLocked || !isLockConflict(error)) throw error;
    }
    return lockedTries.run(() => begin(work, LOCK_TIMEOUT_MS));
  }

  return {
    run: (work, key) =>
      key === undefined
        ? runTries(work, false)
        : turns.run(key, (wasLocked) => runTries(work, wasLocked), isLockConflict),
  };
}

/** The row, or `not_found`: look-ups are how access is checked, so a row that one may not see is not there. */
export function requireRow<T>(row: T | undefined, what: string): T {
  if (row === undefined) throw new Problem("not_found", `There is no such ${what}.`);
  return row;
}
