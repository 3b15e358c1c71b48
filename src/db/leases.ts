import type { Sql } from "./client.ts";

/**
 * The one form in which an instance takes work that is stored. A table whose rows can be leased has three columns:
 * `owner` (the instance), `fence` (rises with each owner, so that late writes of a former one are refused, see
 * https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html), and `lease_until` (by the clock of the
 * database; before it nobody else takes the row). An owner that lives renews its leases several times before they end.
 */
export type LeasedTable<Held> = {
  name: string;
  /** The columns by which a row is found. */
  key: readonly string[];
  /** Rows of `held` as `h`, with the columns of the key and `fence`. */
  listHeld(sql: Sql, held: readonly Held[]): ReturnType<Sql>;
  /** Which rows `x` of the table are still at work. */
  isOpen(sql: Sql): ReturnType<Sql>;
};

/** A row that was claimed under this number. */
export type Fenced = { fence: number };

/** When a lease of `ms` that begins now will end. */
export const leaseEnd = (sql: Sql, ms: number) => sql`now() + ${ms}::float8 * interval '1 ms'`;

/** For an `update` of rows named `x`: what claims them. */
export const takeLease = (sql: Sql, owner: string, leaseMs: number) => sql`
  owner = ${owner}, fence = x.fence + 1, lease_until = ${leaseEnd(sql, leaseMs)}`;

/** Whether a row `x` is nobody's now. */
export const isFree = (sql: Sql) => sql`x.lease_until <= now()`;

/** Whether a row `x` of the table is still held as `h` says. */
export const isHeld = <Held>(sql: Sql, table: LeasedTable<Held>, owner: string) => sql`
  ${matchKey(sql, table, sql`h`)} and x.fence = h.fence and x.owner = ${owner} and ${table.isOpen(sql)}`;

/**
 * Renews what is still held; a row that somebody else has locked, the next time. It is a statement, or a part of one.
 * @param enoughMs a lease that lasts longer than this is left as it is: each renewal writes a row.
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

/** Gives rows back: whoever looks next takes them. */
export const releaseLeases = <Held>(sql: Sql, table: LeasedTable<Held>, owner: string, held: readonly Held[]) => sql`
  update ${sql(table.name)} x set lease_until = now() from ${table.listHeld(sql, held)}
  where ${isHeld(sql, table, owner)}`;

const matchKey = <Held>(sql: Sql, { key }: LeasedTable<Held>, other: ReturnType<Sql>) =>
  key.reduce((all, column, n) => {
    const equal = sql`x.${sql(column)} = ${other}.${sql(column)}`;
    return n === 0 ? equal : sql`${all} and ${equal}`;
  }, sql``);
