import { Problem } from "../lib/problem.ts";
import { type Database, type DatabaseOptions, openPool, type Sql } from "./pool.ts";
import { SESSION_PARAMETERS, type SessionParameters } from "./session.ts";
import { createTransactions, TRANSACTIONS_MAX, type Transactions } from "./transactions.ts";

export * from "./errors.ts";
export type { Database, DatabaseOptions, Sql } from "./pool.ts";

/** How long connections of a side pool stay open unused. */
const SIDE_IDLE_TIMEOUT_S = 30;

/** For look-ups of callers, leases and health checks. */
const RESERVED_POOL_SIZE = 3;
/** What an instance opens at most beside its main pool, without group commits (group-commit.ts). */
export const SIDE_CONNECTIONS_MAX = TRANSACTIONS_MAX + RESERVED_POOL_SIZE;

/** What belongs to a database beside its main pool. */
type Sides = { options: DatabaseOptions; pools: Set<SidePool>; reserved: SidePool; transactions: Transactions };
type SidePool = { open(): Database; close(): Promise<void>; changeSession(change: SessionParameters): void };
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
    const pool = createPool({ ...options, poolSize, idleTimeoutS: SIDE_IDLE_TIMEOUT_S });
    pools.add(pool);
    return pool;
  };
  const transactions = createTransactions(addPool(TRANSACTIONS_MAX));
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
    changeSession(change) {
      if (pool) Object.assign(pool.options.connection, change);
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

/** What this database was opened with, if by openDatabase. */
export const findDatabaseTarget = (database: Database): DatabaseOptions["target"] | undefined =>
  sidesOf.get(database)?.options.target;

/** Connections that are opened from now on, of all pools of this database, send these; undefined: not any more. */
export function changeSession(database: Database, change: SessionParameters): void {
  const sides = sidesOf.get(database);
  if (sides?.options.session) Object.assign(sides.options.session, change);
  // The driver reads them whenever it opens a connection.
  Object.assign(database.options.connection, change);
  for (const pool of sides?.pools ?? []) pool.changeSession(change);
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

/** The row, or `not_found`: look-ups are how access is checked, so a row that one may not see is not there. */
export function requireRow<T>(row: T | undefined, what: string): T {
  if (row === undefined) throw new Problem("not_found", `There is no such ${what}.`);
  return row;
}
