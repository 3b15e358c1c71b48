import type { Sql } from "../../db/client.ts";
import { claimLease, type Fenced, type LeasedTable, renewLeases } from "../../db/leases.ts";
import type { BudgetLimits, BudgetRules } from "./rules.ts";

export type Period = "day" | "month";

/** The payer: a user, and the API key if one was used. */
export type Payer = { userId: string; keyId: string | null };

/** The owner of budget windows: a user or a key. */
export type BudgetScope = { scope: "user" | "key"; id: string };

export type Amount = { tokens: number; usd: number };

/** The maximum number of reservations released per transaction. */
const RELEASE_ROWS = 100;
/** The maximum number of windows or charges deleted per statement. */
const DELETE_ROWS = 1_000;
/** The time for which charges are kept, to recognize retries. Retries happen within minutes. */
const CHARGE_RETENTION_H = 24;

/** A reservation without a stored generation, with the fencing token of its instance's lease. */
export type LeasedReservation = Fenced & { id: string };

const leasedReservations: LeasedTable<LeasedReservation> = {
  name: "budget_reservations",
  key: ["id"],
  selectHeldRows: (sql, held) => sql`
    unnest(${held.map(({ id }) => id)}::uuid[], ${held.map(({ fence }) => fence)}::int[]) as h (id, fence)`,
  inProgressCondition: (sql) => sql`true`,
};

/** Reserves budget and acquires the lease, inside a transaction. @returns the reservation, or the period with too little budget. */
export async function reserveBudget(
  sql: Sql,
  id: string,
  { userId, keyId }: Payer,
  { tokens, usd }: Amount,
  rules: BudgetRules,
  { owner, leaseMs }: { owner: string; leaseMs: number },
): Promise<{ exceeded: Period } | { reservation: LeasedReservation }> {
  // Sent together, to save a round trip.
  const [[row], [stored]] = await Promise.all([
    sql<{ exceeded: Period | null }[]>`
      select reserve_budgets(${id}, ${userId}, ${keyId}, ${tokens}, ${usd}, ${sql.json(rules)}) as exceeded`,
    sql<LeasedReservation[]>`
      update budget_reservations x set ${claimLease(sql, owner, leaseMs)} where x.id = ${id} returning x.id, x.fence`,
  ]);
  if (row?.exceeded) return { exceeded: row.exceeded };
  if (!stored) throw new Error("A reservation was not stored.");
  return { reservation: stored };
}

export type AnswerToReserve = Payer & {
  generationId: string;
  conversationId: string;
  contentBytes: number;
  model: string;
};

/** Reserves budget for an answer that the same transaction stores. @returns the period with too little budget, or null. */
export async function reserveAnswer(sql: Sql, answer: AnswerToReserve, rules: BudgetRules): Promise<Period | null> {
  const { generationId, userId, keyId, conversationId, contentBytes, model } = answer;
  const [row] = await sql<{ exceeded: Period | null }[]>`
    select reserve_answer(${generationId}, ${userId}, ${keyId}, ${conversationId}, ${contentBytes}, ${model},
      ${sql.json(rules)}) as exceeded`;
  return row?.exceeded ?? null;
}

/** Notifies webhooks that the budget was exceeded at this time. Each payer and window is notified once. */
export async function emitExceeded(
  sql: Sql,
  { userId, keyId }: Payer,
  period: Period,
  at: Date,
  limits: { user: BudgetLimits | null; key: BudgetLimits | null },
): Promise<void> {
  const [user, key] = [limits.user && sql.json(limits.user), limits.key && sql.json(limits.key)];
  await sql`select tell_exceeded_budget(${userId}, ${keyId}, ${period}, ${at}, ${user}, ${key})`;
}

/** A charge, and the reservation that it settles. It is applied once per `chargeId`. */
export type Charge = { chargeId: string; reservationId: string; userId: string | null } & Amount;

/** Settles a reservation and charges the actual usage, once per `chargeId`. If there is no reservation, charges `userId`. */
export async function settleCharge(sql: Sql, { chargeId, reservationId, userId, tokens, usd }: Charge): Promise<void> {
  await sql`select settle_once(${chargeId}, ${reservationId}, ${userId}, ${tokens}::bigint, ${usd}::numeric)`;
}

/**
 * Settles several charges in one statement. If `shouldWait` is false, it doesn't wait for locked payers.
 * @returns the indexes of the charges that were skipped because their payer is locked.
 */
export async function settleCharges(sql: Sql, charges: readonly Charge[], shouldWait: boolean): Promise<Set<number>> {
  const [row] = await sql<{ left_out: number[] | null }[]>`
    select settle_charges(${charges.map(({ chargeId }) => chargeId)}::uuid[],
      ${charges.map(({ reservationId }) => reservationId)}::uuid[], ${charges.map(({ userId }) => userId)}::uuid[],
      ${charges.map(({ tokens }) => tokens)}::bigint[], ${charges.map(({ usd }) => usd)}::numeric[], ${shouldWait}) as left_out`;
  // Postgres arrays start at 1.
  return new Set(row?.left_out?.map((position) => Number(position) - 1));
}

export async function renewReservations(
  sql: Sql,
  owner: string,
  held: LeasedReservation[],
  leaseMs: number,
): Promise<void> {
  await renewLeases(sql, leasedReservations, owner, held, { leaseMs, renewBelowMs: leaseMs });
}

/**
 * Releases some expired reservations. Reservations with a locked payer are left for the next run.
 * @returns how many were released, and the id of the last one examined, or null if none are left after `afterId`.
 */
export async function releaseReservations(
  sql: Sql,
  afterId: string,
): Promise<{ freed: number; last_id: string | null }> {
  const [row] = await sql<{ freed: number; last_id: string | null }[]>`
    select freed, last_id from free_reservations(${afterId}, ${RELEASE_ROWS})`;
  return row ?? { freed: 0, last_id: null };
}

/** Deletes a batch of old windows. @returns how many were deleted. */
export async function deleteOldWindows(sql: Sql, retentionDays: number): Promise<number> {
  const { count } = await sql`
    delete from budget_windows where ctid = any (array(
      select x.ctid from budget_windows x where x.starts_on < (now() at time zone 'utc')::date - ${retentionDays}::int
      order by x.starts_on limit ${DELETE_ROWS} for update skip locked))`;
  return count;
}

/** Deletes a batch of old charges. @returns how many were deleted. */
export async function deleteOldCharges(sql: Sql): Promise<number> {
  const { count } = await sql`
    delete from budget_charges where ctid = any (array(
      select x.ctid from budget_charges x where x.charged_at < now() - ${CHARGE_RETENTION_H} * interval '1 hour'
      order by x.charged_at limit ${DELETE_ROWS} for update skip locked))`;
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

/** Lists the current windows, including empty ones. */
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
