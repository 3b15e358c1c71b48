import type { Sql } from "./client.ts";

/**
 * Leases for stored work, for all tables that need them. A leasable table has three columns: `owner` (the instance), `fence` (a
 * fencing token that increases with each owner, so that late writes of a former owner are refused; see
 * https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html), and `lease_until` (by the database's clock;
 * until then, no other instance claims the row). A live owner renews its leases several times before they expire.
 */
export type LeasedTable<Held> = {
  name: string;
  /** The columns that identify a row. */
  key: readonly string[];
  /** Returns the rows of `held` as `h`, with the key columns and `fence`. */
  listHeld(sql: Sql, held: readonly Held[]): ReturnType<Sql>;
  /** Returns the condition for rows `x` of the table that are still in progress. */
  isOpen(sql: Sql): ReturnType<Sql>;
};

/** A row claimed with this fencing token. */
export type Fenced = { fence: number };

/** Returns the expression for when a lease of `ms` that begins now expires. */
export const leaseEnd = (sql: Sql, ms: number) => sql`now() + ${ms}::float8 * interval '1 ms'`;

/** Returns the assignments of an `update` that claims rows `x`. */
export const takeLease = (sql: Sql, owner: string, leaseMs: number) => sql`
  owner = ${owner}, fence = x.fence + 1, lease_until = ${leaseEnd(sql, leaseMs)}`;

/** Returns the condition for rows `x` whose lease has expired. */
export const isFree = (sql: Sql) => sql`x.lease_until <= now()`;

/** Returns the condition for rows `x` that are still held with the fencing token in `h`. */
export const isHeld = <Held>(sql: Sql, table: LeasedTable<Held>, owner: string) => sql`
  ${matchKey(sql, table, sql`h`)} and x.fence = h.fence and x.owner = ${owner} and ${table.isOpen(sql)}`;

/**
 * Renews leases that are still held. Locked rows are skipped until the next renewal. Can be used as a statement or as a part of
 * one.
 * @param enoughMs leases that are valid for longer than this aren't renewed, because each renewal writes a row.
 */
export const renewLeases = <Held>(
  sql: Sql,
  table: LeasedTable<Held>,
  owner: string,
  held: readonly Held[],
  { leaseMs, enoughMs }: { leaseMs: number; enoughMs: number },
) => sql`
  update ${sql(table.name)} x set lease_until = ${leaseEnd(sql, leaseMs)}
  from (
    select ${sql(table.key.map((column) => `h.${column}`))} from ${table.listHeld(sql, held)}
    join ${sql(table.name)} x on ${isHeld(sql, table, owner)}
    where x.lease_until < ${leaseEnd(sql, enoughMs)} for no key update of x skip locked
  ) due
  where ${matchKey(sql, table, sql`due`)}`;

/** Releases leases, so that the next instance that polls claims the rows. */
export const releaseLeases = <Held>(sql: Sql, table: LeasedTable<Held>, owner: string, held: readonly Held[]) => sql`
  update ${sql(table.name)} x set lease_until = now() from ${table.listHeld(sql, held)}
  where ${isHeld(sql, table, owner)}`;

const matchKey = <Held>(sql: Sql, { key }: LeasedTable<Held>, other: ReturnType<Sql>) =>
  key.reduce((all, column, n) => {
    const equal = sql`x.${sql(column)} = ${other}.${sql(column)}`;
    return n === 0 ? equal : sql`${all} and ${equal}`;
  }, sql``);
