import { createNotFound } from "../lib/problem.ts";
import {
  type ConnectionCounts,
  canPrepare,
  type Database,
  type DatabaseOptions,
  LOCK_TIMEOUT_MS,
  openPool,
  type Pooling,
  type Sql,
} from "./pool.ts";
import { SESSION_PARAMETERS, type SessionParameters } from "./session.ts";
import { createTransactions, type Statement, TRANSACTIONS_MAX, type Transactions } from "./transactions.ts";

export * from "./errors.ts";
export type {
  ConnectionCounts,
  Database,
  DatabaseOptions,
  Pooling,
  Sql,
  StatementListener,
} from "./pool.ts";

/** Idle timeout of connections in a side pool. */
const SIDE_IDLE_TIMEOUT_S = 30;

/** For authentication, leases and health checks. */
const RESERVED_POOL_SIZE = 3;
/** The most connections that an instance opens in addition to its main pool and group commits (group-commit.ts). */
export const SIDE_CONNECTIONS_MAX = TRANSACTIONS_MAX + RESERVED_POOL_SIZE;

/** State of a database in addition to its main pool. */
type AttachedPools = {
  options: DatabaseOptions;
  pools: Set<SidePool>;
  reserved: SidePool;
  transactions: Transactions;
  isPoolingKnown: boolean;
};
type SidePool = {
  readonly poolSize: number;
  open(): Database;
  close(): Promise<void>;
  /** Undefined until first used. */
  find(): Database | undefined;
};
const attachedPools = new WeakMap<Database, AttachedPools>();

/**
 * Opens the main pool, for reads and for writes that never wait for a row lock. Connections are made on demand. `end` closes
 * the side pools as well. `bigint` columns are numbers (exact up to 2^53).
 */
export function openDatabase(requestedOptions: DatabaseOptions): Database {
  // All pools share this object, including later ones: see changeSession.
  const options = { ...requestedOptions, session: { ...(requestedOptions.session ?? SESSION_PARAMETERS) } };
  const database = openPool(options);
  const pools = new Set<SidePool>();
  const addPool = (poolSize: number) => {
    const pool = createPool(() => ({ ...options, idleTimeoutS: SIDE_IDLE_TIMEOUT_S }), poolSize);
    pools.add(pool);
    return pool;
  };
  const transactions = createTransactions(addPool(TRANSACTIONS_MAX), {
    getPooling: () => options.pooling ?? "none",
    onWait: options.observer?.onWait,
  });
  const reserved = addPool(RESERVED_POOL_SIZE);
  attachedPools.set(database, { options, pools, reserved, transactions, isPoolingKnown: false });
  const end = database.end;
  database.end = async (timeout) => void (await Promise.all([end(timeout), ...[...pools].map(({ close }) => close())]));
  return database;
}

/** @param getOptions is called when the pool is first used: by then the pooler in front of the database is known. */
function createPool(getOptions: () => DatabaseOptions, poolSize: number): SidePool {
  let pool: Database | undefined;
  return {
    poolSize,
    open() {
      pool ??= openPool({ ...getOptions(), poolSize });
      return pool;
    },
    async close() {
      await pool?.end({ timeout: getOptions().closeTimeoutS ?? 1 });
    },
    find: () => pool,
  };
}

/**
 * Creates another small pool on the same database, for work that may wait for locks, so it can't use up the main pool.
 * Opened on first use; its idle connections are closed. `close` waits at most a second for running work.
 */
export function createSidePool(
  database: Database,
  poolSize: number,
  options: Pick<
    DatabaseOptions,
    "idleTimeoutS" | "closeTimeoutS" | "statementTimeoutMs" | "onNotification" | "onClosed"
  > = {},
): SidePool {
  const attached = attachedPools.get(database);
  if (!attached) throw new Error("The pool was not opened by openDatabase.");
  const change = { idleTimeoutS: SIDE_IDLE_TIMEOUT_S, ...options };
  const pool = createPool(() => ({ ...attached.options, ...change }), poolSize);
  const kept = {
    ...pool,
    async close() {
      attached.pools.delete(kept);
      await pool.close();
    },
  };
  attached.pools.add(kept);
  return kept;
}

/** The options this database was opened with, if by openDatabase. */
export const findDatabaseTarget = (database: Database): DatabaseOptions["target"] | undefined =>
  attachedPools.get(database)?.options.target;

/** Changes the startup parameters of all connections opened from now on, in all pools; undefined: not sent any more. */
export function changeSession(database: Database, change: SessionParameters): void {
  const session = attachedPools.get(database)?.options.session;
  if (session) Object.assign(session, change);
  // The driver reads them whenever it opens a connection.
  for (const pool of listPools(database)) Object.assign(pool.options.connection, change);
}

/**
 * Adapts all pools of this database to the pooler in front of it.
 * @param isKnown false: the pooler is only assumed until it is detected.
 */
export function changePooling(database: Database, pooling: Pooling, isKnown: boolean): void {
  const sides = attachedPools.get(database);
  if (!sides) return;
  const { options } = sides;
  options.pooling = pooling;
  sides.isPoolingKnown = isKnown;
  // The driver reads it for each statement.
  for (const pool of listPools(database)) pool.options.prepare = canPrepare(options.target, pooling);
}

/** The pooler in front of this database, if already detected (pooler-check.ts). */
export const getPooling = (database: Database): Pooling => attachedPools.get(database)?.options.pooling ?? "none";

/** Whether each transaction may get a different connection to Postgres. */
export const isPooledByTransaction = (database: Database): boolean =>
  attachedPools.get(database)?.isPoolingKnown === true && getPooling(database) === "transaction";

/** A pool of one connection with the same target and settings. The caller closes it. */
export function openProbe(database: Database): Database {
  const sides = attachedPools.get(database);
  if (!sides) throw new Error("The pool was not opened by openDatabase.");
  return openPool({ ...sides.options, poolSize: 1 });
}

/** The open pools of this database. */
const listPools = (database: Database): Database[] => [
  database,
  ...[...(attachedPools.get(database)?.pools ?? [])].flatMap((pool) => pool.find() ?? []),
];

/** Connections of all pools of this database, statements waiting for a connection, and the maximum. */
export function countConnections(database: Database): ConnectionCounts & { max: number } {
  const sides = attachedPools.get(database);
  let max = sides?.options.poolSize ?? 0;
  for (const { poolSize } of sides?.pools ?? []) max += poolSize;
  const sum = { idle: 0, active: 0, waiting: sides?.transactions.waiting() ?? 0, max };
  for (const pool of listPools(database)) {
    const counts = pool.countConnections?.();
    sum.idle += counts?.idle ?? 0;
    sum.active += counts?.active ?? 0;
    sum.waiting += counts?.waiting ?? 0;
  }
  return sum;
}

/**
 * Connections that stay available when the main pool is exhausted. Only for short statements that don't wait for row locks,
 * since the driver pipelines statements behind running ones.
 */
export const getReservedPool = (database: Database): Database =>
  attachedPools.get(database)?.reserved.open() ?? database;

/**
 * Runs `work` in one transaction: committed when the promise fulfills, rolled back when it rejects. Use it for everything
 * that may wait for a row lock, even single statements: transactions have their own connections, outside the main pool.
 * `work` is repeated if a row was locked.
 * @param key names the contended row, such as `user:<id>`, or the id of a conversation. Transactions with the same key queue
 * without a connection. If the row stays locked, queued ones only wait briefly for it.
 * @throws Problem `overloaded` when too many wait; a lock timeout of the database; whatever `work` throws.
 */
export async function withTransaction<T>(database: Database, work: (sql: Sql) => Promise<T>, key?: string): Promise<T> {
  const sides = attachedPools.get(database);
  return sides ? sides.transactions.run(work, key) : ((await database.begin(work)) as T);
}

/**
 * Like `withTransaction` for a single statement in its own implicit transaction, which saves the round trips of `begin` and
 * `commit`.
 * @param statement sets the `lock_timeout` that it receives, as functions of the database can.
 */
export async function withStatement<T>(database: Database, statement: Statement<T>, key?: string): Promise<T> {
  const sides = attachedPools.get(database);
  return sides ? sides.transactions.runStatement(statement, key) : statement(database, LOCK_TIMEOUT_MS);
}

/** Returns the row or throws `not_found`. Lookups check access, so a row that the caller can't access counts as missing. */
export function requireRow<T>(row: T | undefined, what: string): T {
  if (row === undefined) throw createNotFound(what);
  return row;
}
