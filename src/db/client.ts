import { createNotFoundProblem } from "../lib/problem.ts";
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

/** The idle timeout of connections in side pools. */
const SIDE_IDLE_TIMEOUT_S = 30;

/** The size of the pool reserved for authentication, leases and health checks. */
const RESERVED_POOL_SIZE = 3;
/** The maximum number of connections in addition to the main pool and group commits (group-commit.ts). */
export const SIDE_CONNECTIONS_MAX = TRANSACTIONS_MAX + RESERVED_POOL_SIZE;

/** A database's options, and all of its pools except the main pool. */
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
  /** Returns the pool, or undefined if it hasn't been used yet. */
  findOpenPool(): Database | undefined;
};
const attachedPools = new WeakMap<Database, AttachedPools>();

/**
 * Opens the main pool, for reads and for writes that never wait for a row lock. Connections are opened on demand. `end` also
 * closes the side pools. `bigint` columns are returned as numbers, which are exact up to 2^53.
 */
export function openDatabase(requestedOptions: DatabaseOptions): Database {
  // All pools share this object, even pools that are created later. `changeSessionParameters` changes it.
  const options = { ...requestedOptions, session: { ...(requestedOptions.session ?? SESSION_PARAMETERS) } };
  const database = openPool(options);
  const pools = new Set<SidePool>();
  const addPool = (poolSize: number) => {
    const pool = createLazyPool(() => ({ ...options, idleTimeoutS: SIDE_IDLE_TIMEOUT_S }), poolSize);
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

/** Creates a pool that is opened when it is first used. @param getOptions called when the pool is opened, after the pooler was detected. */
function createLazyPool(getOptions: () => DatabaseOptions, poolSize: number): SidePool {
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
    findOpenPool: () => pool,
  };
}

/**
 * Creates a small separate pool for the same database, so that work that may wait for locks doesn't exhaust the main pool. The pool
 * is opened when first used, and closes idle connections. By default, `close` waits at most a second for running statements.
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
  const optionChanges = { idleTimeoutS: SIDE_IDLE_TIMEOUT_S, ...options };
  const pool = createLazyPool(() => ({ ...attached.options, ...optionChanges }), poolSize);
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

/** Returns the target with which the database was opened, or undefined if `openDatabase` didn't open it. */
export const findDatabaseTarget = (database: Database): DatabaseOptions["target"] | undefined =>
  attachedPools.get(database)?.options.target;

/** Changes the startup parameters of future connections in all pools. Parameters that are set to undefined aren't sent. */
export function changeSessionParameters(database: Database, change: SessionParameters): void {
  const session = attachedPools.get(database)?.options.session;
  if (session) Object.assign(session, change);
  // The driver reads these whenever it opens a connection.
  for (const pool of listPools(database)) Object.assign(pool.options.connection, change);
}

/**
 * Adapts all of this database's pools to the pooler in front of it.
 * @param isKnown whether the pooler was detected. False if it is only assumed.
 */
export function setPooling(database: Database, pooling: Pooling, isKnown: boolean): void {
  const attached = attachedPools.get(database);
  if (!attached) return;
  const { options } = attached;
  options.pooling = pooling;
  attached.isPoolingKnown = isKnown;
  // The driver reads this option for each statement.
  for (const pool of listPools(database)) pool.options.prepare = canPrepare(options.target, pooling);
}

/** Returns the kind of pooler in front of this database. Before it is detected (pooler-check.ts), returns an assumption. */
export const getPooling = (database: Database): Pooling => attachedPools.get(database)?.options.pooling ?? "none";

/** Returns whether the pooler may use a different connection for each transaction. */
export const isPooledByTransaction = (database: Database): boolean =>
  attachedPools.get(database)?.isPoolingKnown === true && getPooling(database) === "transaction";

/** Opens a pool with one connection and otherwise the same options. The caller must close it. */
export function openProbePool(database: Database): Database {
  const attached = attachedPools.get(database);
  if (!attached) throw new Error("The pool was not opened by openDatabase.");
  return openPool({ ...attached.options, poolSize: 1 });
}

/** Returns the open pools of this database. */
const listPools = (database: Database): Database[] => [
  database,
  ...[...(attachedPools.get(database)?.pools ?? [])].flatMap((pool) => pool.findOpenPool() ?? []),
];

/** Counts the connections in all of this database's pools, and the statements that wait for one. Also returns the maximum. */
export function countConnections(database: Database): ConnectionCounts & { max: number } {
  const attached = attachedPools.get(database);
  let max = attached?.options.poolSize ?? 0;
  for (const { poolSize } of attached?.pools ?? []) max += poolSize;
  const sum = { idle: 0, active: 0, waiting: attached?.transactions.countWaiting() ?? 0, max };
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
 * Runs `work` in a transaction, which is committed if the promise resolves and rolled back if it rejects. Use it for all work that may wait
 * for a row lock, even single statements, because transactions have their own connections outside the main pool. If a row was locked,
 * `work` is retried.
 * @param key identifies the contended row, such as `user:<id>` or a conversation's id. Transactions with the same key are queued without a
 * connection. While the row stays locked, each transaction waits only briefly for the lock.
 * @throws Problem `overloaded` if too many transactions are waiting. Also throws the database's lock timeout, and errors of `work`.
 */
export async function withTransaction<T>(database: Database, work: (sql: Sql) => Promise<T>, key?: string): Promise<T> {
  const attached = attachedPools.get(database);
  if (!attached) return (await database.begin(work)) as T;
  return traceWork(attached.options, "transaction", () => attached.transactions.run(work, key));
}

/**
 * Like `withTransaction`, but for a single statement in an implicit transaction, which saves the round trips of `begin` and
 * `commit`.
 * @param statement must set the `lock_timeout` that it receives. A database function can do that.
 */
export async function withStatement<T>(database: Database, statement: Statement<T>, key?: string): Promise<T> {
  const attached = attachedPools.get(database);
  if (!attached) return statement(database, LOCK_TIMEOUT_MS);
  return traceWork(attached.options, "statement", () => attached.transactions.runStatement(statement, key));
}

/** Records a span for database work, including waits for connections and locks, and retries. */
function traceWork<T>({ tracing }: DatabaseOptions, name: string, work: () => Promise<T>): Promise<T> {
  if (!tracing?.getRecordingSpan()) return work();
  const attributes = { "db.system.name": "postgresql", "db.query.summary": name };
  return tracing.run(name, { kind: SpanKind.CLIENT, attributes }, work);
}

/** Returns the row. @throws `not_found` if it is undefined, which means that it doesn't exist or the caller has no access to it. */
export function requireRow<T>(row: T | undefined, resource: string): T {
  if (row === undefined) throw createNotFoundProblem(resource);
  return row;
}
