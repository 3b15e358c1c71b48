import type { Caller } from "../../access/caller.ts";
import type { Sql } from "../../db/client.ts";
import type { MemberRole } from "../../protocol/conversation.ts";
import type { Hook } from "./model.ts";

export type HookRow = Omit<Hook, "created_at"> & { created_at: Date };

const columns = (sql: Sql) => sql`
  h.id, h.conversation_id, h.user_id, h.name, h.secret is not null as signed, h.last_four, h.created_at`;

export const mapRowToHook = ({ created_at, ...row }: HookRow): Hook => ({
  ...row,
  created_at: created_at.toISOString(),
});

/** A hook that can currently post, with its creator. */
export type ActiveHook = {
  id: string;
  conversationId: string;
  name: string;
  /** The encrypted secret, or null if posts need no signature. */
  secret: Buffer | null;
  creator: Caller["user"];
  /** The post's `X-Request-Id`. */
  requestId?: string;
};

type ActiveHookRow = Omit<ActiveHook, "conversationId" | "creator"> & {
  conversation_id: string;
  user_id: string;
} & Omit<Caller["user"], "id">;

/**
 * Finds the hook with this token, if its creator can still write in the conversation. Always needs a single lookup by hash, whether the
 * token is valid or not.
 */
export async function findActiveHook(sql: Sql, tokenHash: Buffer): Promise<ActiveHook | undefined> {
  const [row] = await sql<ActiveHookRow[]>`
    select h.id, h.conversation_id, h.name, h.secret, u.id as user_id, u.email, u.display_name, u.role, u.created_at
    from hooks h
    join users u on u.id = h.user_id and u.disabled_at is null
    join members m on m.conversation_id = h.conversation_id and m.user_id = h.user_id and m.role <> 'viewer'
    where h.token_hash = ${tokenHash}`;
  if (!row) return undefined;
  const { id, conversation_id, name, secret, user_id, ...user } = row;
  return { id, conversationId: conversation_id, name, secret, creator: { id: user_id, ...user } };
}

/** Finds a member's role. Returns undefined for an outsider. */
export async function findRole(sql: Sql, conversationId: string, userId: string): Promise<MemberRole | undefined> {
  const [row] = await sql<{ role: MemberRole }[]>`
    select role from members where conversation_id = ${conversationId} and user_id = ${userId}`;
  return row?.role;
}

/** Like `findRole`, but locks the conversation against other writers. For an outsider, nothing is locked. */
export async function lockRole(sql: Sql, conversationId: string, userId: string): Promise<MemberRole | undefined> {
  await sql`
    select 1 from conversations c where c.id = ${conversationId}
      and exists (select 1 from members m where m.conversation_id = c.id and m.user_id = ${userId})
    for no key update`;
  // A separate statement sees rows that were committed while waiting for the lock.
  return findRole(sql, conversationId, userId);
}

export async function countHooks(sql: Sql, conversationId: string): Promise<number> {
  const [row] = await sql<{ count: number }[]>`
    select count(*)::int as count from hooks where conversation_id = ${conversationId}`;
  return row?.count ?? 0;
}

export type NewHook = Pick<HookRow, "id" | "conversation_id" | "user_id" | "name" | "last_four"> & {
  tokenHash: Buffer;
  secret: Buffer | null;
};

export async function insertHook(sql: Sql, hook: NewHook): Promise<HookRow | undefined> {
  const { id, conversation_id, user_id, name, last_four, tokenHash, secret } = hook;
  const [row] = await sql<HookRow[]>`
    insert into hooks as h (id, conversation_id, user_id, name, token_hash, last_four, secret)
    values (${id}, ${conversation_id}, ${user_id}, ${name}, ${tokenHash}, ${last_four}, ${secret})
    returning ${columns(sql)}`;
  return row;
}

/** Lists hooks after an id, oldest first. @param userId the hooks' creator, or null for any creator. */
export async function listHooks(
  sql: Sql,
  conversationId: string,
  userId: string | null,
  afterId: string | null,
  rowsMax: number,
): Promise<HookRow[]> {
  return sql<HookRow[]>`
    select ${columns(sql)} from hooks h
    where h.conversation_id = ${conversationId} and (${userId}::uuid is null or h.user_id = ${userId})
      and (${afterId}::uuid is null or h.id > ${afterId})
    order by h.id limit ${rowsMax}`;
}

/** Deletes a hook. @param userId the hook's creator, or null for any creator. @returns whether the hook existed. */
export async function deleteHook(
  sql: Sql,
  conversationId: string,
  id: string,
  userId: string | null,
): Promise<boolean> {
  const { count } = await sql`
    delete from hooks where id = ${id} and conversation_id = ${conversationId}
      and (${userId}::uuid is null or user_id = ${userId})`;
  return count > 0;
}
