import { createNotFound } from "../lib/problem.ts";
import { SpanKind } from "../lib/tracing/tracing.ts";
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

/** The idle timeout of connections in a side pool. */
const SIDE_IDLE_TIMEOUT_S = 30;

/** The size of the pool reserved for authentication, leases and health checks. */
const RESERVED_POOL_SIZE = 3;
/** The maximum number of connections besides those of the main pool and group commits (group-commit.ts). */
export const SIDE_CONNECTIONS_MAX = TRANSACTIONS_MAX + RESERVED_POOL_SIZE;

/** A database's options, and its pools other than the main one. */
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
  /** Returns the pool; undefined until it is first used. */
  find(): Database | undefined;
};
const attachedPools = new WeakMap<Database, AttachedPools>();

/**
 * Opens the main pool, for reads and for writes that never wait for a row lock. Connections are opened on demand. `end` also
 * closes the side pools. `bigint` columns are returned as numbers, which are exact up to 2^53.
 */
export function openDatabase(requestedOptions: DatabaseOptions): Database {
  // All pools share this object, including those created later; see changeSession.
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

/** @param getOptions called when the pool is first used, because only then is it known whether there is a pooler. */
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
 * Creates a small separate pool on the same database, so that work that may wait for locks doesn't exhaust the main pool. The
 * pool is opened when first used, and closes idle connections. `close` waits at most a second for running work.
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
  const sidePool = {
    ...pool,
    async close() {
      attached.pools.delete(sidePool);
      await pool.close();
    },
  };
  attached.pools.add(sidePool);
  return sidePool;
}

/** Returns the target with which the database was opened; undefined if openDatabase didn't open it. */
export const findDatabaseTarget = (database: Database): DatabaseOptions["target"] | undefined =>
  attachedPools.get(database)?.options.target;

/** Changes the startup parameters of future connections in all pools. Parameters set to undefined are no longer sent. */
export function changeSession(database: Database, change: SessionParameters): void {
  const session = attachedPools.get(database)?.options.session;
  if (session) Object.assign(session, change);
  // The driver reads these whenever it opens a connection.
  for (const pool of listPools(database)) Object.assign(pool.options.connection, change);
}

/**
 * Adapts all pools of this database to the pooler in front of it.
 * @param isKnown whether the pooler was detected; false if it is only assumed for now.
 */
export function changePooling(database: Database, pooling: Pooling, isKnown: boolean): void {
  const sides = attachedPools.get(database);
  if (!sides) return;
  const { options } = sides;
  options.pooling = pooling;
  sides.isPoolingKnown = isKnown;
  // The driver reads this option for each statement.
  for (const pool of listPools(database)) pool.options.prepare = canPrepare(options.target, pooling);
}

/** Returns the kind of pooler in front of this database, once detected (pooler-check.ts). */
export const getPooling = (database: Database): Pooling => attachedPools.get(database)?.options.pooling ?? "none";

/** Whether each transaction may get a different connection to Postgres. */
export const isPooledByTransaction = (database: Database): boolean =>
  attachedPools.get(database)?.isPoolingKnown === true && getPooling(database) === "transaction";

/** Opens a pool of one connection with the same target and settings. The caller must close it. */
export function openProbe(database: Database): Database {
  const sides = attachedPools.get(database);
  if (!sides) throw new Error("The pool was not opened by openDatabase.");
  return openPool({ ...sides.options, poolSize: 1 });
}

/** Returns the open pools of this database. */
const listPools = (database: Database): Database[] => [
  database,
  ...[...(attachedPools.get(database)?.pools ?? [])].flatMap((pool) => pool.find() ?? []),
];

/** Counts the connections in all pools of this database, and statements that wait for one. Also returns the maximum. */
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
 * Returns a pool that stays available when the main pool is exhausted. Use it only for short statements that don't wait for
 * row locks, because the driver pipelines statements behind running ones.
 */
export const getReservedPool = (database: Database): Database =>
  attachedPools.get(database)?.reserved.open() ?? database;

/**
 * Runs `work` in a transaction, which is committed if the promise fulfills and rolled back if it rejects. Use it for everything
 * that may wait for a row lock, even single statements, because transactions have their own connections outside the main pool.
 * If a row was locked, `work` is retried.
 * @param key identifies the contended row: for example `user:<id>`, or a conversation's id. Transactions with the same key are
 * queued without a connection. If the row stays locked, queued ones wait only briefly for it.
 * @throws Problem `overloaded` if too many transactions are waiting; the database's lock timeout; whatever `work` throws.
 */
export async function withTransaction<T>(database: Database, work: (sql: Sql) => Promise<T>, key?: string): Promise<T> {
  const sides = attachedPools.get(database);
  if (!sides) return (await database.begin(work)) as T;
  return traceDatabase(sides.options, "transaction", () => sides.transactions.run(work, key));
}

/**
 * Like `withTransaction`, but for a single statement in an implicit transaction, which saves the round trips of `begin` and
 * `commit`.
 * @param statement must set the `lock_timeout` that it receives, which functions in the database can do.
 */
export async function withStatement<T>(database: Database, statement: Statement<T>, key?: string): Promise<T> {
  const sides = attachedPools.get(database);
  if (!sides) return statement(database, LOCK_TIMEOUT_MS);
  return traceDatabase(sides.options, "statement", () => sides.transactions.runStatement(statement, key));
}

/** Records a span for database work, including waits for connections and locks, and retries. */
function traceDatabase<T>({ tracing }: DatabaseOptions, name: string, work: () => Promise<T>): Promise<T> {
  if (!tracing?.recording()) return work();
  const attributes = { "db.system.name": "postgresql", "db.query.summary": name };
  return tracing.run(name, { kind: SpanKind.CLIENT, attributes }, work);
}

/** Returns the row, or throws `not_found`. Lookups check access, so rows that the caller can't access count as missing. */
export function requireRow<T>(row: T | undefined, what: string): T {
  if (row === undefined) throw createNotFound(what);
  return row;
}
