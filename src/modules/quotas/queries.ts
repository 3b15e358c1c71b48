import type { Sql } from "../../db/client.ts";
import type { QuotaName } from "./model.ts";

// Each query reads only this user's rows, using an index.

async function fetchCount(rows: Promise<{ count: number }[]>): Promise<number> {
  const [row] = await rows;
  return row?.count ?? 0;
}

/** Quotas with potentially large counts. The other quotas are counted under a lock when they change. */
export type CountedQuota = Extract<QuotaName, "stored_bytes" | "conversations" | "joined_conversations" | "feedback">;

export const countQueries: Record<CountedQuota, (sql: Sql, userId: string) => Promise<number>> = {
  stored_bytes: (sql, userId) =>
    fetchCount(sql`
      select (
        (select coalesce(sum(written_bytes), 0) from members where user_id = ${userId})
        + (select coalesce(sum(written_bytes), 0) from former_members where user_id = ${userId})
        + (select coalesce(sum(stored_bytes), 0) from prompts where user_id = ${userId} and deleted_at is null)
      )::bigint as count`),

  conversations: (sql, userId) =>
    fetchCount(sql`select count(*)::int as count from members where user_id = ${userId} and is_creator`),

  joined_conversations: (sql, userId) =>
    fetchCount(sql`select count(*)::int as count from members where user_id = ${userId} and not is_creator`),

  feedback: (sql, userId) => fetchCount(sql`select count(*)::int as count from feedback where user_id = ${userId}`),
};

/** Quotas with small counts. */
export type SmallQuotaCounts = Record<Exclude<QuotaName, CountedQuota>, number>;

export async function countSmallQuotas(sql: Sql, userId: string): Promise<SmallQuotaCounts> {
  const [row] = await sql<SmallQuotaCounts[]>`
    select p.prompts, p.prompt_versions,
      (select count(*)::int from sessions where user_id = ${userId} and revoked_at is null and expires_at > now())
        as sessions,
      (select count(*)::int from api_keys where user_id = ${userId}) as api_keys,
      (select count(*)::int from webhooks where user_id = ${userId} and deleted_at is null) as webhooks
    from (
      select count(*)::int as prompts, coalesce(max(versions), 0) as prompt_versions
      from prompts where user_id = ${userId} and deleted_at is null
    ) p`;
  if (!row) throw new Error("The aggregate query returned no row.");
  return row;
}
