import type { Sql } from "../../db/client.ts";
import { type Fenced, type LeasedTable, renewLeases, takeLease } from "../../db/leases.ts";
import type { BudgetLimits, BudgetRules } from "./rules.ts";

export type Period = "day" | "month";

/** Who pays: a user, and the API key that was used, if one was. */
export type Payer = { userId: string; keyId: string | null };

/** Whose windows: those of one user, or of one key. */
export type BudgetScope = { scope: "user" | "key"; id: string };

export type Amount = { tokens: number; usd: number };

/** Reservations that are ended in one transaction. */
const SWEEP_ROWS = 100;
/** Windows or charges that one statement deletes. */
const FORGET_ROWS = 1_000;
/** A charge is tried for some minutes at most. */
const CHARGES_KEPT_H = 24;

/** A reservation without a stored generation, as the instance that made it holds it. */
export type Held = Fenced & { id: string };

const leased: LeasedTable<Held> = {
  name: "budget_reservations",
  key: ["id"],
  listHeld: (sql, held) => sql`
    unnest(${held.map(({ id }) => id)}::uuid[], ${held.map(({ fence }) => fence)}::int[]) as h (id, fence)`,
  isOpen: (sql) => sql`true`,
};

/** Inside a transaction: reserves, and takes the lease on it; or gives the period that has no room. */
export async function reserve(
  sql: Sql,
  id: string,
  { userId, keyId }: Payer,
  { tokens, usd }: Amount,
  rules: BudgetRules,
  { owner, leaseMs }: { owner: string; leaseMs: number },
): Promise<{ exceeded: Period } | { held: Held }> {
  // Sent together.
  const [[row], [taken]] = await Promise.all([
    sql<{ exceeded: Period | null }[]>`
      select reserve_budgets(${id}, ${userId}, ${keyId}, ${tokens}, ${usd}, ${sql.json(rules)}) as exceeded`,
    sql<Held[]>`
      update budget_reservations x set ${takeLease(sql, owner, leaseMs)} where x.id = ${id} returning x.id, x.fence`,
  ]);
  if (row?.exceeded) return { exceeded: row.exceeded };
  if (!taken) throw new Error("A reservation was not stored.");
  return { held: taken };
}

export type AnswerToReserve = Payer & {
  generationId: string;
  conversationId: string;
  contentBytes: number;
  model: string;
};

/** Reserves for an answer that is stored in the same transaction, or gives the period that has no room. */
export async function reserveAnswer(sql: Sql, answer: AnswerToReserve, rules: BudgetRules): Promise<Period | null> {
  const { generationId, userId, keyId, conversationId, contentBytes, model } = answer;
  const [row] = await sql<{ exceeded: Period | null }[]>`
    select reserve_answer(${generationId}, ${userId}, ${keyId}, ${conversationId}, ${contentBytes}, ${model},
      ${sql.json(rules)}) as exceeded`;
  return row?.exceeded ?? null;
}

/** Tells webhooks, once for each payer and window, that there was no room at this time. */
export async function tellExceeded(
  sql: Sql,
  { userId, keyId }: Payer,
  period: Period,
  at: Date,
  limits: { user: BudgetLimits | null; key: BudgetLimits | null },
): Promise<void> {
  const [user, key] = [limits.user && sql.json(limits.user), limits.key && sql.json(limits.key)];
  await sql`select tell_exceeded_budget(${userId}, ${keyId}, ${period}, ${at}, ${user}, ${key})`;
}

/** What is charged, once under `chargeId`, and the reservation that ends with it. */
export type Charge = { chargeId: string; reservationId: string; userId: string | null } & Amount;

/** Ends a reservation with what was used, once under `chargeId`; `userId` is charged where there was none. */
export async function settle(sql: Sql, { chargeId, reservationId, userId, tokens, usd }: Charge): Promise<void> {
  await sql`select settle_once(${chargeId}, ${reservationId}, ${userId}, ${tokens}::bigint, ${usd}::numeric)`;
}

/**
 * As `settle`, for several together, in one statement. Without `waits` it waits for no payer.
 * @returns the indexes of those that are left out, because their payer is locked by somebody else.
 */
export async function settleCharges(sql: Sql, charges: readonly Charge[], waits: boolean): Promise<Set<number>> {
  const [row] = await sql<{ left_out: number[] | null }[]>`
    select settle_charges(${charges.map(({ chargeId }) => chargeId)}::uuid[],
      ${charges.map(({ reservationId }) => reservationId)}::uuid[], ${charges.map(({ userId }) => userId)}::uuid[],
      ${charges.map(({ tokens }) => tokens)}::bigint[], ${charges.map(({ usd }) => usd)}::numeric[], ${waits}) as left_out`;
  // Postgres counts from 1.
  return new Set(row?.left_out?.map((position) => Number(position) - 1));
}

export async function renew(sql: Sql, owner: string, held: Held[], leaseMs: number): Promise<void> {
  await renewLeases(sql, leased, owner, held, { leaseMs, enoughMs: leaseMs });
}

/**
 * Ends a few reservations that nobody holds any more; those whose payer is locked, the next time.
 * @returns how many, and the last of those it looked at; null: there are no more behind `afterId`.
 */
export async function freeReservations(sql: Sql, afterId: string): Promise<{ freed: number; last_id: string | null }> {
  const [row] = await sql<{ freed: number; last_id: string | null }[]>`
    select freed, last_id from free_reservations(${afterId}, ${SWEEP_ROWS})`;
  return row ?? { freed: 0, last_id: null };
}

/** Forgets what was spent long ago, a part of it. @returns how many windows. */
export async function deleteOldWindows(sql: Sql, keptDays: number): Promise<number> {
  const { count } = await sql`
    delete from budget_windows where ctid = any (array(
      select x.ctid from budget_windows x where x.starts_on < (now() at time zone 'utc')::date - ${keptDays}::int
      order by x.starts_on limit ${FORGET_ROWS} for update skip locked))`;
  return count;
}

/** Forgets charges that nobody tries any more, a part of them. @returns how many. */
export async function deleteOldCharges(sql: Sql): Promise<number> {
  const { count } = await sql`
    delete from budget_charges where ctid = any (array(
      select x.ctid from budget_charges x where x.charged_at < now() - ${CHARGES_KEPT_H} * interval '1 hour'
      order by x.charged_at limit ${FORGET_ROWS} for update skip locked))`;
  return count;
}

export type WindowRow = {
  period: Period;
  starts_at: Date;
  ends_at: Date;
  spent_tokens: number;
  reserved_tokens: number;
  spent_usd: string;
  reserved_usd: string;
};

/** The windows of today, also where nothing was spent yet. */
export async function listWindows(sql: Sql, { scope, id }: BudgetScope): Promise<WindowRow[]> {
  return sql<WindowRow[]>`
    select p.period, p.starts_on::timestamp at time zone 'utc' as starts_at,
      (p.starts_on + p.length) at time zone 'utc' as ends_at,
      coalesce(w.spent_tokens, 0) as spent_tokens, coalesce(w.reserved_tokens, 0) as reserved_tokens,
      coalesce(w.spent_usd, 0) as spent_usd, coalesce(w.reserved_usd, 0) as reserved_usd
    from (values ('day', (now() at time zone 'utc')::date, interval '1 day'),
      ('month', date_trunc('month', now() at time zone 'utc')::date, interval '1 month')) as p (period, starts_on, length)
    left join budget_windows w on w.scope = ${scope} and w.scope_id = ${id} and w.period = p.period
      and w.starts_on = p.starts_on`;
}
