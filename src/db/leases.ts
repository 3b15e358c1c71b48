import type { Sql } from "./client.ts";

/**
 * A table with leases for stored work. A lease consists of three columns:
 * - `owner`: the instance that holds the lease.
 * - `fence`: a fencing token that increases with each owner, so that late writes from a previous owner are rejected. See
 * https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html.
 * - `lease_until`: when the lease expires, by the database's clock. Until then, no other instance claims the row.
 * An owner renews its leases long before they expire.
 */
export type LeasedTable<HeldRow> = {
  name: string;
  /** The columns that identify a row. */
  key: readonly string[];
  /** Returns a `from` item `h` with the key columns and `fence` of the held rows. */
  selectHeldRows(sql: Sql, held: readonly HeldRow[]): ReturnType<Sql>;
  /** Returns the condition for rows `x` of the table that are still in progress. */
  inProgressCondition(sql: Sql): ReturnType<Sql>;
};

/** A row that was claimed with this fencing token. */
export type Fenced = { fence: number };

/** Returns the expression for the time when a lease of `ms` that begins now expires. */
export const leaseExpiry = (sql: Sql, ms: number) => sql`now() + ${ms}::float8 * interval '1 ms'`;

/** Returns the assignments for an `update` that claims rows `x`. */
export const claimLease = (sql: Sql, owner: string, leaseMs: number) => sql`
  owner = ${owner}, fence = x.fence + 1, lease_until = ${leaseExpiry(sql, leaseMs)}`;

/** Returns the condition for rows `x` whose lease has expired. */
export const freeCondition = (sql: Sql) => sql`x.lease_until <= now()`;

/** Returns the condition for rows `x` that are still held with the fencing token in `h`. */
export const heldCondition = <Held>(sql: Sql, table: LeasedTable<Held>, owner: string) => sql`
  ${matchKey(sql, table, sql`h`)} and x.fence = h.fence and x.owner = ${owner} and ${table.inProgressCondition(sql)}`;

/**
 * Renews leases that are still held. Locked rows are skipped until the next renewal. The result can be used as a statement or as part of
 * one.
 * @param renewBelowMs leases that expire later than this aren't renewed, because each renewal writes a row.
 */
export const renewLeases = <Held>(
  sql: Sql,
  table: LeasedTable<Held>,
  owner: string,
  held: readonly Held[],
  { leaseMs, renewBelowMs }: { leaseMs: number; renewBelowMs: number },
) => sql`
  update ${sql(table.name)} x set lease_until = ${leaseExpiry(sql, leaseMs)}
  from (
    select ${sql(table.key.map((column) => `h.${column}`))} from ${table.selectHeldRows(sql, held)}
    join ${sql(table.name)} x on ${heldCondition(sql, table, owner)}
    where x.lease_until < ${leaseExpiry(sql, renewBelowMs)} for no key update of x skip locked
  ) due
  where ${matchKey(sql, table, sql`due`)}`;

/** Releases leases, so that any instance can claim the rows immediately. */
export const releaseLeases = <Held>(sql: Sql, table: LeasedTable<Held>, owner: string, held: readonly Held[]) => sql`
  update ${sql(table.name)} x set lease_until = now() from ${table.selectHeldRows(sql, held)}
  where ${heldCondition(sql, table, owner)}`;

/** Returns the condition that rows `x` have the same key as the rows of the table alias. */
const matchKey = <Held>(sql: Sql, { key }: LeasedTable<Held>, alias: ReturnType<Sql>) =>
  key.reduce((condition, column, index) => {
    const columnCondition = sql`x.${sql(column)} = ${alias}.${sql(column)}`;
    return index === 0 ? columnCondition : sql`${condition} and ${columnCondition}`;
  }, sql``);
