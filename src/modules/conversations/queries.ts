import type { Sql } from "../../db/client.ts";
import { COUNTED_MAX, conversationColumns, unreadColumn } from "../../events/columns.ts";
import type { Conversation, ConversationRow, MemberRole, MemberRow } from "../../protocol/conversation.ts";

/** The maximum lag of `member_activity`, with some margin (sql/functions/take_positions.sql). */
const ACTIVITY_LAG = "65 s";
/** The maximum number of a user's newest conversations that are checked for another user's membership. */
const SHARED_CONVERSATIONS_MAX = 500;

export type MembershipRow = ConversationRow & {
  role: MemberRole;
  last_read_seq: number;
  unread: number;
  cursor: string;
};

/** Returns the columns of a conversation `c` for its member `m`. */
const membershipColumns = (sql: Sql) => sql`
  ${conversationColumns(sql)}, m.role, m.last_read_seq, ${unreadColumn(sql)} as unread,
  to_char(c.updated_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as cursor`;

export async function findConversation(sql: Sql, id: string, userId: string): Promise<MembershipRow | undefined> {
  const [row] = await sql<MembershipRow[]>`
    select ${membershipColumns(sql)} from members m join conversations c on c.id = m.conversation_id
    where m.conversation_id = ${id} and m.user_id = ${userId}`;
  return row;
}

/**
 * Lists conversations, latest activity first. `member_activity`, which may lag by up to a minute, provides the candidates for the
 * page. These are then sorted by the conversations' own times.
 */
export async function listConversations(
  sql: Sql,
  userId: string,
  after: { updatedAt: string; id: string } | null,
  rowsMax: number,
): Promise<MembershipRow[]> {
  // Passed as a string, because the driver would truncate a timestamp's microseconds, and rows between the truncated and the real
  // time would be skipped.
  const cursorCondition = after
    ? sql`(c.updated_at, c.id) < (${after.updatedAt}::text::timestamptz, ${after.id}::uuid)`
    : sql`true`;
  const userCondition = after
    ? sql`a.user_id = ${userId} and a.active_at <= ${after.updatedAt}::text::timestamptz`
    : sql`a.user_id = ${userId}`;
  return sql<MembershipRow[]>`
    with first as materialized (
      select a.active_at from member_activity a
      cross join lateral (select c.id, c.updated_at from conversations c where c.id = a.conversation_id limit 1) c
      where ${userCondition} and ${cursorCondition} order by a.active_at desc limit ${rowsMax}
    ), candidates as materialized (
      select a.conversation_id from member_activity a
      where ${userCondition} and a.active_at >= (
        select case when count(*) < ${rowsMax} then '-infinity' else min(active_at) - ${ACTIVITY_LAG}::interval end
        from first)
      union
      select v.conversation_id from activity_moves v
      where (select 1 from members m where m.conversation_id = v.conversation_id and m.user_id = ${userId}) is not null
    ), page as materialized (
      select c.id, c.updated_at from candidates x
      cross join lateral (select c.id, c.updated_at from conversations c where c.id = x.conversation_id limit 1) c
      where ${cursorCondition} order by c.updated_at desc, c.id desc limit ${rowsMax}
    )
    select ${membershipColumns(sql)} from page p
    -- The limit makes Postgres plan each lookup separately. Otherwise, it expects many rows and scans whole tables.
    cross join lateral (
      select * from members m where m.conversation_id = p.id and m.user_id = ${userId} limit 1
    ) m
    cross join lateral (select * from conversations c where c.id = p.id limit 1) c
    order by p.updated_at desc, p.id desc`;
}

export async function listConversationIds(sql: Sql, userId: string, rowsMax: number): Promise<string[]> {
  const rows = await sql<{ conversation_id: string }[]>`
    select conversation_id from members where user_id = ${userId} limit ${rowsMax}`;
  return rows.map(({ conversation_id }) => conversation_id);
}

type Json = Parameters<Sql["json"]>[0];

export type NewConversation = Pick<
  ConversationRow,
  | "id"
  | "title"
  | "kind"
  | "model"
  | "prompt_id"
  | "reply_mode"
  | "documents"
  | "tools"
  | "reasoning_effort"
  | "metadata"
>;

export async function insertConversation(sql: Sql, conversation: NewConversation, ownerId: string): Promise<void> {
  const { id, title, kind, model, prompt_id, reply_mode, documents, tools, reasoning_effort, metadata } = conversation;
  const titledBy = title === "" ? null : "person";
  await sql`
    with made as (
      insert into conversations (id, title, titled_by, kind, model, prompt_id, reply_mode, documents, tools,
        reasoning_effort, metadata)
      values (${id}, ${title}, ${titledBy}, ${kind}, ${model},
              (select p.id from prompts p where p.id = ${prompt_id} and p.deleted_at is null for key share), ${reply_mode},
              ${documents}, ${sql.json(tools)}, ${reasoning_effort}, ${sql.json(metadata as Json)})
      returning id
    )
    insert into members (conversation_id, user_id, role, is_creator) select id, ${ownerId}, 'owner', true from made`;
}

/**
 * Locks the conversation against other writers and returns the user's role, which can't change until the transaction ends. For an
 * outsider, locks nothing and returns undefined.
 */
export async function lockMembership(sql: Sql, id: string, userId: string): Promise<MemberRole | undefined> {
  const locked = sql`
    select 1 from conversations c where c.id = ${id}
      and exists (select 1 from members m where m.conversation_id = c.id and m.user_id = ${userId})
    for no key update`.execute();
  // A separate statement sees rows that were committed while waiting for the lock.
  const role = sql<{ role: MemberRole }[]>`
    select role from members where conversation_id = ${id} and user_id = ${userId}`;
  const [, [row]] = await Promise.all([locked, role]);
  return row?.role;
}

type Position = { role: MemberRole; last_read_seq: number; last_seq: number };

/** Finds a member's role and read position, and the newest `seq`. Returns undefined for an outsider. */
export async function findPosition(sql: Sql, id: string, userId: string): Promise<Position | undefined> {
  const [row] = await sql<Position[]>`
    select m.role, m.last_read_seq, c.last_seq from members m join conversations c on c.id = m.conversation_id
    where m.conversation_id = ${id} and m.user_id = ${userId}`;
  return row;
}

export async function updateConversation(
  sql: Sql,
  id: string,
  change: Partial<Omit<NewConversation, "id" | "kind">>,
): Promise<void> {
  const { metadata, tools, ...plain } = change;
  // Copies settings that an older release stored in the metadata, before the metadata changes (see uses_documents and chosen_tools).
  if (metadata)
    await sql`
      update conversations set documents = uses_documents(documents, metadata), tools = chosen_tools(tools, metadata)
      where id = ${id} and (documents is null or tools is null)`;
  const values = {
    ...plain,
    ...(plain.title !== undefined && { titled_by: "person" }),
    ...(tools !== undefined && { tools: sql.json(tools) }),
    ...(metadata && { metadata: sql.json(metadata as Json) }),
  };
  if (Object.keys(values).length > 0) await sql`update conversations set ${sql(values)} where id = ${id}`;
}

/** Claims the title for a model. @returns false if it was already claimed, or if a person has set the title. */
export async function claimTitle(sql: Sql, id: string): Promise<boolean> {
  const { count } = await sql`
    update conversations set titled_by = 'model' where id = ${id} and titled_by is null and title = ''
      and deleted_at is null`;
  return count > 0;
}

/** Sets a claimed title. @returns false if a person has set the title since it was claimed. */
export async function updateClaimedTitle(sql: Sql, id: string, title: string): Promise<boolean> {
  const { count } = await sql`
    update conversations set title = ${title} where id = ${id} and titled_by = 'model' and title = ''
      and deleted_at is null`;
  return count > 0;
}

/** Removes the conversation's members and answers in progress, so that it can't be accessed. Its rows are erased later. */
export async function markDeleted(sql: Sql, id: string, at: Date): Promise<void> {
  await sql`select mark_deleted(array[${id}]::uuid[], ${at})`;
}

/** Returns the ids of those conversations that were deleted, even if their rows are already erased. */
export async function listDeletedIds(sql: Sql, ids: readonly string[]): Promise<string[]> {
  const rows = await sql<{ id: string }[]>`
    select i.id from unnest(${[...ids]}::uuid[]) as i (id)
    -- With a limit, the lookup is planned separately. A join may read all conversations while the table is small.
    where (select c.id from conversations c where c.id = i.id and c.deleted_at is null limit 1) is null`;
  return rows.map(({ id }) => id);
}

/** A membership that has ended (`role` is null) or no longer includes write access. */
export type LostMembership = { conversationId: string; userId: string; role: "viewer" | null; isDeleted: boolean };

export async function listLostMemberships(
  sql: Sql,
  memberships: readonly { conversationId: string; userId: string }[],
): Promise<LostMembership[]> {
  const conversationIds = memberships.map(({ conversationId }) => conversationId);
  const userIds = memberships.map(({ userId }) => userId);
  return await sql<LostMembership[]>`
    select w.conversation_id as "conversationId", w.user_id as "userId", m.role, c.id is null as "isDeleted"
    from unnest(${conversationIds}::uuid[], ${userIds}::uuid[]) as w (conversation_id, user_id)
    left join conversations c on c.id = w.conversation_id and c.deleted_at is null
    left join members m on m.conversation_id = c.id and m.user_id = w.user_id
    where m.role is null or m.role = 'viewer'`;
}

export async function hasDeletedConversations(sql: Sql): Promise<boolean> {
  const rows = await sql`select 1 from conversations where deleted_at is not null order by deleted_at limit 1`;
  return rows.length > 0;
}

/** The state of an erasure: the conversation that isn't completely erased yet, if any, and the last `seq` erased in it. */
export type ErasureState = { has_more: boolean; conversation: string | null; seq: number | null };

/** Erases a batch of rows of deleted conversations (sql/functions). @param previousState the result of the previous call. */
export async function eraseDeletedBatch(
  sql: Sql,
  batchSize: number,
  previousState?: ErasureState,
): Promise<ErasureState> {
  const { conversation = null, seq = null } = previousState ?? {};
  const [row] = await sql<ErasureState[]>`
    select has_more, conversation, seq from erase_deleted(${batchSize}, ${conversation}, ${seq})`;
  if (!row) throw new Error("erase_deleted returned no row.");
  return row;
}

export async function listMembers(
  sql: Sql,
  id: string,
  afterUserId: string | null,
  rowsMax: number,
): Promise<MemberRow[]> {
  const cursorCondition = afterUserId ? sql`and m.user_id > ${afterUserId}` : sql``;
  return sql<MemberRow[]>`
    select m.user_id, u.display_name, m.role, m.last_read_seq, m.joined_at
    from members m join users u on u.id = m.user_id
    where m.conversation_id = ${id} ${cursorCondition} order by m.user_id limit ${rowsMax}`;
}

/** Lists the ids of at most `rowsMax` members. */
export async function listMemberIds(sql: Sql, id: string, rowsMax: number): Promise<string[]> {
  const rows = await sql<{ user_id: string }[]>`
    select user_id from members where conversation_id = ${id} limit ${rowsMax}`;
  return rows.map(({ user_id }) => user_id);
}

export async function findMember(sql: Sql, id: string, userId: string): Promise<MemberRow | undefined> {
  const [row] = await sql<MemberRow[]>`
    select m.user_id, u.display_name, m.role, m.last_read_seq, m.joined_at
    from members m join users u on u.id = m.user_id where m.conversation_id = ${id} and m.user_id = ${userId}`;
  return row;
}

/** Finds the roles of the given users. Users who aren't members are omitted. */
export async function findRoles(sql: Sql, id: string, userIds: string[]): Promise<Map<string, MemberRole>> {
  const rows = await sql<{ user_id: string; role: MemberRole }[]>`
    select user_id, role from members where conversation_id = ${id} and user_id = any (${userIds}::uuid[])`;
  return new Map(rows.map(({ user_id, role }) => [user_id, role]));
}

/**
 * Returns whether a user has created, or written in, a conversation that the other user is a member of. Checks only the other user's newest
 * conversations, so that it is fast even if there are many.
 */
export async function hasSharedConversation(sql: Sql, userId: string, otherUserId: string): Promise<boolean> {
  const rows = await sql`
    select 1 from (
      select conversation_id from members where user_id = ${otherUserId}
      order by conversation_id desc limit ${SHARED_CONVERSATIONS_MAX}
    ) o
    where exists (
      select 1 from members m where m.conversation_id = o.conversation_id and m.user_id = ${userId}
        and (m.is_creator or m.written_bytes > 0))
    limit 1`;
  return rows.length > 0;
}

/**
 * Adds a member, or updates their role. A returning member keeps their earlier read position.
 * @param at the time of the event, which becomes a new member's `joined_at`.
 * @returns the member, or undefined if the user doesn't exist or is disabled.
 */
export async function upsertMember(
  sql: Sql,
  id: string,
  userId: string,
  { role, at }: { role: MemberRole; at: Date },
): Promise<MemberRow | undefined> {
  const [row] = await sql<MemberRow[]>`
    with former as (
      delete from former_members where conversation_id = ${id} and user_id = ${userId}
      returning last_read_seq, read_count, written_bytes
    ), upserted as (
      insert into members (conversation_id, user_id, role, joined_at, last_read_seq, read_count, written_bytes)
      select ${id}, u.id, ${role}, ${at}, coalesce(f.last_read_seq, 0), coalesce(f.read_count, 0),
        coalesce(f.written_bytes, 0)
      from users u left join former f on true
      where u.id = ${userId} and u.disabled_at is null for key share of u
      on conflict (conversation_id, user_id) do update set role = excluded.role
      returning user_id, role, last_read_seq, joined_at
    )
    select m.user_id, u.display_name, m.role, m.last_read_seq, m.joined_at
    from upserted m join users u on u.id = m.user_id`;
  return row;
}

export async function deleteMember(sql: Sql, id: string, userId: string): Promise<void> {
  await sql`
    with gone as (
      delete from members where conversation_id = ${id} and user_id = ${userId}
      returning conversation_id, user_id, last_read_seq, read_count, written_bytes
    )
    insert into former_members (conversation_id, user_id, last_read_seq, read_count, written_bytes)
    select * from gone where last_read_seq > 0`;
}

export async function countMembers(sql: Sql, id: string): Promise<{ members: number; owners: number }> {
  const [row] = await sql<{ members: number; owners: number }[]>`
    select count(*)::int as members, count(*) filter (where role = 'owner')::int as owners
    from members where conversation_id = ${id}`;
  return row ?? { members: 0, owners: 0 };
}

/**
 * Moves the read position forward, but never back.
 * @param shouldWait whether to wait if the row is locked. Otherwise, the position doesn't move.
 * @returns false if the position didn't move, for example for an outsider.
 */
export async function moveReadPosition(
  sql: Sql,
  id: string,
  userId: string,
  seq: number,
  { shouldWait }: { shouldWait: boolean },
): Promise<boolean> {
  // Counts the messages after the position, up to a maximum. The order makes Postgres use the index.
  const { count } = await sql`
    update members m set last_read_seq = ${seq}, read_count = p.message_count - (
      select count(*) from (
        select 1 from messages x where x.conversation_id = ${id} and x.seq > ${seq}
        order by x.seq limit ${COUNTED_MAX}) above)
    from (
      select x.user_id, c.message_count from members x join conversations c on c.id = x.conversation_id
      where x.conversation_id = ${id} and x.user_id = ${userId} and c.last_seq >= ${seq} and x.last_read_seq < ${seq}
      for no key update of x ${shouldWait ? sql`` : sql`skip locked`}
    ) p
    where m.conversation_id = ${id} and m.user_id = p.user_id`;
  return count > 0;
}

export function mapRowToConversation(row: MembershipRow): Conversation {
  const { cursor: _, ...conversation } = row;
  return { ...conversation, created_at: row.created_at.toISOString(), updated_at: row.updated_at.toISOString() };
}
