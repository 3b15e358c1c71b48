import type { Sql } from "./client.ts";

/**
 * Leases for stored work, shared by all such tables. A leasable table has three columns: `owner` (the instance), `fence` (a
 * fencing token that rises with each owner, so late writes of a former owner are refused, see
 * https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html), and `lease_until` (by the database's clock;
 * until then nobody else takes the row). A live owner renews its leases several times before they expire.
 */
export type LeasedTable<Held> = {
  name: string;
  /** The columns that identify a row. */
  key: readonly string[];
  /** Rows of `held` as `h`, with the key columns and `fence`. */
  listHeld(sql: Sql, held: readonly Held[]): ReturnType<Sql>;
  /** Condition for rows `x` of the table that are still in progress. */
  isOpen(sql: Sql): ReturnType<Sql>;
};

/** A row claimed with this fencing token. */
export type Fenced = { fence: number };

/** The end of a lease of `ms` that begins now. */
export const leaseEnd = (sql: Sql, ms: number) => sql`now() + ${ms}::float8 * interval '1 ms'`;

/** Assignments for an `update` of rows named `x` that claim them. */
export const takeLease = (sql: Sql, owner: string, leaseMs: number) => sql`
  owner = ${owner}, fence = x.fence + 1, lease_until = ${leaseEnd(sql, leaseMs)}`;

/** Whether the lease of a row `x` has expired. */
export const isFree = (sql: Sql) => sql`x.lease_until <= now()`;

/** Whether a row `x` of the table is still held with the fencing token in `h`. */
export const isHeld = <Held>(sql: Sql, table: LeasedTable<Held>, owner: string) => sql`
  ${matchKey(sql, table, sql`h`)} and x.fence = h.fence and x.owner = ${owner} and ${table.isOpen(sql)}`;

/**
 * Renews leases that are still held; locked rows are skipped until the next renewal. Usable as a statement or a part of one.
 * @param enoughMs leases that last longer than this are not renewed: each renewal writes a row.
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

/** Releases leases: the next instance that polls takes the rows. */
export const releaseLeases = <Held>(sql: Sql, table: LeasedTable<Held>, owner: string, held: readonly Held[]) => sql`
  update ${sql(table.name)} x set lease_until = now() from ${table.listHeld(sql, held)}
  where ${isHeld(sql, table, owner)}`;

const matchKey = <Held>(sql: Sql, { key }: LeasedTable<Held>, other: ReturnType<Sql>) =>
  key.reduce((all, column, n) => {
    const equal = sql`x.${sql(column)} = ${other}.${sql(column)}`;
    return n === 0 ? equal : sql`${all} and ${equal}`;
  }, sql``);
