import type { Sql } from "../../db/client.ts";
import type { BudgetRules } from "./rules.ts";

export type Period = "day" | "month";

/** Who pays: a user, and the API key that was used, if one was. */
export type Payer = { userId: string; keyId: string | null };

/** Whose windows: those of one user, or of one key. */
export type Scope = { scope: "user" | "key"; id: string };

export type Amount = { tokens: number; usd: number };

/** Reserves, or gives the period that has no room. A reservation that is not renewed expires after `ttlMs`. */
export async function reserve(
  sql: Sql,
  id: string,
  { userId, keyId }: Payer,
  { tokens, usd }: Amount,
  rules: BudgetRules,
  ttlMs: number,
): Promise<Period | null> {
  const [row] = await sql<{ exceeded: Period | null }[]>`
    select reserve_budgets(${id}, ${userId}, ${keyId}, ${tokens}, ${usd}, ${sql.json(rules)},
      now() + ${ttlMs} * interval '1 ms') as exceeded`;
  return row?.exceeded ?? null;
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

/** Ends a reservation with what was used; `userId` is charged where there was none. */
export async function settle(sql: Sql, id: string, userId: string | null, { tokens, usd }: Amount): Promise<void> {
  await sql`select settle_budgets(${[id]}::uuid[], ${[userId]}::uuid[], ${[tokens]}::bigint[], ${[usd]}::numeric[])`;
}

export async function renew(sql: Sql, ids: string[], ttlMs: number): Promise<void> {
  await sql`
    update budget_reservations set expires_at = now() + ${ttlMs} * interval '1 ms'
    where id = any (${ids}::uuid[]) and expires_at is not null`;
}

/** Ends reservations that nobody holds any more: their generation has ended or is gone, or they have expired. */
export async function sweepReservations(sql: Sql): Promise<number> {
  const [row] = await sql<{ count: number }[]>`
    with left_behind as (
      select distinct r.id from budget_reservations r
      where r.expires_at < now() or (r.expires_at is null and not exists (
        select 1 from generations g where g.id = r.id and g.status <> 'finished'))
    ),
    gathered as (select coalesce(array_agg(id), '{}') as ids, count(*)::int as count from left_behind)
    select count, case when count > 0 then settle_budgets(ids, array_fill(null::uuid, array[count]),
      array_fill(0::bigint, array[count]), array_fill(0::numeric, array[count]))::text end from gathered`;
  return row?.count ?? 0;
}

/** Forgets what users and keys have spent that no longer exist. */
export async function sweepWindows(sql: Sql): Promise<void> {
  await sql`
    delete from budget_windows w where case w.scope
      when 'user' then not exists (select 1 from users u where u.id = w.scope_id)
      else not exists (select 1 from api_keys k where k.id = w.scope_id) end`;
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
export async function listWindows(sql: Sql, { scope, id }: Scope): Promise<WindowRow[]> {
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
