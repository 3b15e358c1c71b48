import { Problem } from "../lib/problem.ts";
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

/** How long connections of a side pool stay open unused. */
const SIDE_IDLE_TIMEOUT_S = 30;

/** For look-ups of callers, leases and health checks. */
const RESERVED_POOL_SIZE = 3;
/** What an instance opens at most beside its main pool, without group commits (group-commit.ts). */
export const SIDE_CONNECTIONS_MAX = TRANSACTIONS_MAX + RESERVED_POOL_SIZE;

/** What belongs to a database beside its main pool. */
type Sides = {
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
  /** Undefined until it is first used. */
  find(): Database | undefined;
};
const sidesOf = new WeakMap<Database, Sides>();

/**
 * Opens the main pool, which is for reads, and for writes that wait for no row; connections are made when first needed.
 * `end` closes its side pools as well. `bigint` columns are numbers (exact up to 2^53).
 */
export function openDatabase(given: DatabaseOptions): Database {
  // One object for all pools, the later ones too: see changeSession.
  const options = { ...given, session: { ...(given.session ?? SESSION_PARAMETERS) } };
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
  sidesOf.set(database, { options, pools, reserved, transactions, isPoolingKnown: false });
  const end = database.end;
  database.end = async (timeout) => void (await Promise.all([end(timeout), ...[...pools].map(({ close }) => close())]));
  return database;
}

/** @param getOptions is asked when the pool is first used: by then it is known what stands in front of the database. */
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
 * A further, small pool on the same database, for work that may wait for locks: it takes no connection that others need.
 * It is opened at its first use, and its connections are closed when nobody uses them. `close` ends it after what is
 * running, at most a second later.
 */
export function createSidePool(
  database: Database,
  poolSize: number,
  options: Pick<
    DatabaseOptions,
    "idleTimeoutS" | "closeTimeoutS" | "statementTimeoutMs" | "onNotification" | "onClosed"
  > = {},
): SidePool {
  const sides = sidesOf.get(database);
  if (!sides) throw new Error("The pool was not opened by openDatabase.");
  const change = { idleTimeoutS: SIDE_IDLE_TIMEOUT_S, ...options };
  const pool = createPool(() => ({ ...sides.options, ...change }), poolSize);
  const kept = {
    ...pool,
    async close() {
      sides.pools.delete(kept);
      await pool.close();
    },
  };
  sides.pools.add(kept);
  return kept;
}

/** What this database was opened with, if by openDatabase. */
export const findDatabaseTarget = (database: Database): DatabaseOptions["target"] | undefined =>
  sidesOf.get(database)?.options.target;

/** Connections that are opened from now on, of all pools of this database, send these; undefined: not any more. */
export function changeSession(database: Database, change: SessionParameters): void {
  const session = sidesOf.get(database)?.options.session;
  if (session) Object.assign(session, change);
  // The driver reads them whenever it opens a connection.
  for (const pool of listPools(database)) Object.assign(pool.options.connection, change);
}

/**
 * From now on, all pools of this database work with what stands in front of it.
 * @param isKnown false: it is only assumed, until it is known.
 */
export function changePooling(database: Database, pooling: Pooling, isKnown: boolean): void {
  const sides = sidesOf.get(database);
  if (!sides) return;
  const { options } = sides;
  options.pooling = pooling;
  sides.isPoolingKnown = isKnown;
  // The driver reads it for each statement.
  for (const pool of listPools(database)) pool.options.prepare = canPrepare(options.target, pooling);
}

/** The pooler in front of this database, as far as it is known (pooler-check.ts). */
export const getPooling = (database: Database): Pooling => sidesOf.get(database)?.options.pooling ?? "none";

/** Whether it is known that each transaction may get another connection to Postgres. */
export const isPooledByTransaction = (database: Database): boolean =>
  sidesOf.get(database)?.isPoolingKnown === true && getPooling(database) === "transaction";

/** A pool of a single connection with the same target and settings, which the caller ends. */
export function openProbe(database: Database): Database {
  const sides = sidesOf.get(database);
  if (!sides) throw new Error("The pool was not opened by openDatabase.");
  return openPool({ ...sides.options, poolSize: 1 });
}

/** The pools of this database that are open. */
const listPools = (database: Database): Database[] => [
  database,
  ...[...(sidesOf.get(database)?.pools ?? [])].flatMap((pool) => pool.find() ?? []),
];

/** Connections of all pools of this database, statements that wait for one, and the maximum. */
export function countConnections(database: Database): ConnectionCounts & { max: number } {
  const sides = sidesOf.get(database);
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
 * Connections that are left when the main pool is exhausted. For short statements that wait for no row, since the driver
 * sends the next statement after one that is still running.
 */
export const getReservedPool = (database: Database): Database => sidesOf.get(database)?.reserved.open() ?? database;

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
 * The same for a single statement, which is a transaction by itself: without the round trips of `begin` and `commit`.
 * @param statement sets the `lock_timeout` that it is given, as functions of the database can.
 */
export async function withStatement<T>(database: Database, statement: Statement<T>, key?: string): Promise<T> {
  const sides = sidesOf.get(database);
  return sides ? sides.transactions.runStatement(statement, key) : statement(database, LOCK_TIMEOUT_MS);
}

/** The row, or `not_found`: look-ups are how access is checked, so a row that one may not see is not there. */
export function requireRow<T>(row: T | undefined, what: string): T {
  if (row === undefined) throw new Problem("not_found", `There is no such ${what}.`);
  return row;
}
