import type { PendingQuery, Row } from "postgres";
import type { Sql } from "../../db/client.ts";

/** Rows of one statement; with the longest messages still only a few megabytes. */
const BATCH_ROWS = 200;
/** Messages of all people that one statement may walk over in search of those of one. */
const WINDOW_ROWS = 20_000;
/** Clocks of instances differ: a message may carry an id from before its author's registration. */
const CLOCK_TOLERANCE_MS = 24 * 60 * 60 * 1000;

const FIRST_ID = "00000000-0000-0000-0000-000000000000";

export type ExportedRow = Record<string, unknown>;

/** The logins of a user, without what their tokens are made of. */
export function readSessions(sql: Sql, userId: string): AsyncGenerator<ExportedRow[]> {
  return readByKey(
    "id",
    (after) => sql<ExportedRow[]>`
      select id, user_agent, ip_address, created_at, last_used_at, expires_at, revoked_at from sessions
      where user_id = ${userId} and id > ${after} order by id limit ${BATCH_ROWS}`,
  );
}

/** Who the user is to issuers of identities. */
export function readIdentities(sql: Sql, userId: string): AsyncGenerator<ExportedRow[]> {
  return readByKey(
    "id",
    (after) => sql<ExportedRow[]>`
      select id, issuer, subject, created_at from identities
      where user_id = ${userId} and id > ${after} order by id limit ${BATCH_ROWS}`,
  );
}

/** The keys of a user, without what would tell them. */
export function readApiKeys(sql: Sql, userId: string): AsyncGenerator<ExportedRow[]> {
  return readByKey(
    "id",
    (after) => sql<ExportedRow[]>`
      select id, name, prefix, last_four, scopes, is_service, expires_at, last_used_at, created_at from api_keys
      where user_id = ${userId} and id > ${after} order by id limit ${BATCH_ROWS}`,
  );
}

/** Where a user is, with what the conversation is called and how it is set up. */
export function readMemberships(sql: Sql, userId: string): AsyncGenerator<ExportedRow[]> {
  return readByKey(
    "conversation_id",
    (after) => sql<ExportedRow[]>`
      select m.conversation_id, m.role, m.last_read_seq, m.joined_at, c.title, c.kind, c.model, c.prompt_id, c.reply_mode,
        c.metadata, c.created_at
      from members m join conversations c on c.id = m.conversation_id
      where m.user_id = ${userId} and m.conversation_id > ${after} order by m.conversation_id limit ${BATCH_ROWS}`,
  );
}

export function readFeedback(sql: Sql, userId: string): AsyncGenerator<ExportedRow[]> {
  return readByKey(
    "message_id",
    (after) => sql<ExportedRow[]>`
      select message_id, rating, comment, created_at, updated_at from feedback
      where user_id = ${userId} and message_id > ${after} order by message_id limit ${BATCH_ROWS}`,
  );
}

/** The prompts of a user; their templates are among the versions. */
export function readPrompts(sql: Sql, userId: string): AsyncGenerator<ExportedRow[]> {
  return readByKey(
    "id",
    (after) => sql<ExportedRow[]>`
      select id, name, version, is_default, created_at, updated_at from prompts
      where user_id = ${userId} and deleted_at is null and id > ${after} order by id limit ${BATCH_ROWS}`,
  );
}

/** All versions that are kept of a user's prompts, newest first in each. */
export async function* readPromptVersions(sql: Sql, userId: string): AsyncGenerator<ExportedRow[]> {
  for await (const prompts of readPrompts(sql, userId))
    for (const { id } of prompts) yield* readVersions(sql, String(id));
}

async function* readVersions(sql: Sql, promptId: string): AsyncGenerator<ExportedRow[]> {
  let before = 2 ** 31 - 1;
  for (;;) {
    const rows = await sql<(ExportedRow & { version: number })[]>`
      select prompt_id, version, template, created_at from prompt_versions
      where prompt_id = ${promptId} and version < ${before} order by version desc limit ${BATCH_ROWS}`;
    if (rows.length > 0) yield rows;
    if (rows.length < BATCH_ROWS) return;
    before = rows.at(-1)?.version ?? 0;
  }
}

/** What answers of models have used, by day and month of UTC; as far back as it is kept. */
export async function* readUsage(sql: Sql, userId: string): AsyncGenerator<ExportedRow[]> {
  // A row for a day and one for a month: a few hundred in a year.
  yield await sql<ExportedRow[]>`
    select period, starts_on, spent_tokens, spent_usd from budget_windows
    where scope = 'user' and scope_id = ${userId} order by period, starts_on`;
}

/** What the audit record says of a user, without who else did it and from where. */
export function readAuditEvents(sql: Sql, userId: string): AsyncGenerator<ExportedRow[]> {
  return readByKey(
    "id",
    (after) => sql<ExportedRow[]>`
      select id, action, at, actor_id is not distinct from ${userId} as is_own, details,
        case when actor_id is null or actor_id = ${userId} then ip_address end as ip_address
      from audit_events
      where (actor_id = ${userId} or target_id = ${userId}) and id > ${after} order by id limit ${BATCH_ROWS}`,
  );
}

/** What a user wrote, also in conversations they have left. */
export function readMessages(sql: Sql, userId: string, since: Date): AsyncGenerator<ExportedRow[]> {
  return walkMessages(
    sql,
    since,
    sql`select id, conversation_id, seq, content, status, parent_id, client_message_id, created_at, updated_at, deleted_at
        from messages where author_id = ${userId}`,
  );
}

/** What models wrote for a user. */
export function readAnswers(sql: Sql, userId: string, since: Date): AsyncGenerator<ExportedRow[]> {
  return walkMessages(
    sql,
    since,
    sql`select id, conversation_id, seq, content, status, model, parent_id, created_at, updated_at, deleted_at
        from current_messages x where role = 'assistant' and exists (
          select 1 from generations g
          where g.conversation_id = x.conversation_id and g.message_seq = x.seq and g.requested_by = ${userId})`,
  );
}

/**
 * Messages in the order of their ids. There is no index by author, since it would make every send dearer for the sake of
 * a rare export; the index of their ids is walked instead, from the day of the registration on, a window at a time, so that no
 * statement runs long. Empty batches tell that the search goes on.
 */
async function* walkMessages(sql: Sql, since: Date, wanted: PendingQuery<Row[]>): AsyncGenerator<ExportedRow[]> {
  let after = firstIdAt(since.getTime() - CLOCK_TOLERANCE_MS);
  for (;;) {
    const [window] = await sql<{ id: string }[]>`
      select id from messages where id > ${after} order by id offset ${WINDOW_ROWS - 1} limit 1`;
    const start = after;
    const withinWindow = (id: string) => (window ? sql`id > ${id} and id <= ${window.id}` : sql`id > ${id}`);
    yield* readByKey(
      "id",
      (last) => sql<ExportedRow[]>`
        ${wanted} and ${withinWindow(last)} order by id limit ${BATCH_ROWS}`,
      start,
    );
    if (!window) return;
    after = window.id;
    yield [];
  }
}

async function* readByKey(
  key: string,
  readAfter: (after: string) => Promise<ExportedRow[]>,
  first = FIRST_ID,
): AsyncGenerator<ExportedRow[]> {
  let after = first;
  for (;;) {
    const rows = await readAfter(after);
    if (rows.length > 0) yield rows;
    if (rows.length < BATCH_ROWS) return;
    after = String(rows.at(-1)?.[key]);
  }
}

/** The smallest UUIDv7 of a millisecond. */
function firstIdAt(timeMs: number): string {
  const hex = Math.max(0, timeMs).toString(16).padStart(12, "0");
  return `${hex.slice(0, 8)}-${hex.slice(8)}-7000-8000-000000000000`;
}
