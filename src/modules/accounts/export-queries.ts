import type { Sql } from "../../db/client.ts";
import { NIL_UUID } from "../../lib/id.ts";

/** The number of rows per statement. */
const BATCH_ROWS = 200;

export type ExportedRow = Record<string, unknown>;

/** Reads the user's sessions, without token secrets. */
export function readSessions(sql: Sql, userId: string): AsyncGenerator<ExportedRow[]> {
  return readByKey(
    "id",
    (after) => sql<ExportedRow[]>`
      select id, user_agent, ip_address, created_at, last_used_at, expires_at, revoked_at from sessions
      where user_id = ${userId} and id > ${after} order by id limit ${BATCH_ROWS}`,
  );
}

/** Reads the user's identities at issuers. */
export function readIdentities(sql: Sql, userId: string): AsyncGenerator<ExportedRow[]> {
  return readByKey(
    "id",
    (after) => sql<ExportedRow[]>`
      select id, issuer, subject, created_at from identities
      where user_id = ${userId} and id > ${after} order by id limit ${BATCH_ROWS}`,
  );
}

/** Reads the user's API keys, without secrets. */
export function readApiKeys(sql: Sql, userId: string): AsyncGenerator<ExportedRow[]> {
  return readByKey(
    "id",
    (after) => sql<ExportedRow[]>`
      select id, name, prefix, last_four, scopes, is_service, expires_at, last_used_at, created_at from api_keys
      where user_id = ${userId} and id > ${after} order by id limit ${BATCH_ROWS}`,
  );
}

/** Reads the user's incoming hooks, without their secret URLs. */
export function readHooks(sql: Sql, userId: string): AsyncGenerator<ExportedRow[]> {
  return readByKey(
    "id",
    (after) => sql<ExportedRow[]>`
      select h.id, h.conversation_id, h.name, h.last_four, h.secret is not null as is_signed, h.created_at
      from members m join hooks h on h.conversation_id = m.conversation_id and h.user_id = m.user_id
      where m.user_id = ${userId} and h.id > ${after} order by h.id limit ${BATCH_ROWS}`,
  );
}

/** Reads the user's webhooks, without their secrets. */
export function readWebhooks(sql: Sql, userId: string): AsyncGenerator<ExportedRow[]> {
  return readByKey(
    "id",
    (after) => sql<ExportedRow[]>`
      select id, url, events, description, disabled_at, disabled_reason, created_at, updated_at from webhooks
      where user_id = ${userId} and deleted_at is null and id > ${after} order by id limit ${BATCH_ROWS}`,
  );
}

/** Reads the user's memberships, with the conversations' titles and settings. */
export function readMemberships(sql: Sql, userId: string): AsyncGenerator<ExportedRow[]> {
  return readByKey(
    "conversation_id",
    (after) => sql<ExportedRow[]>`
      select m.conversation_id, m.role, m.last_read_seq, m.joined_at, c.title, c.kind, c.model, c.prompt_id, c.reply_mode,
        uses_documents(c.documents, c.metadata) as documents, chosen_tools(c.tools, c.metadata) as tools, c.reasoning_effort,
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

/** Reads the user's prompts. Their templates are exported with the versions. */
export function readPrompts(sql: Sql, userId: string): AsyncGenerator<ExportedRow[]> {
  return readByKey(
    "id",
    (after) => sql<ExportedRow[]>`
      select id, name, version, is_default, created_at, updated_at from prompts
      where user_id = ${userId} and deleted_at is null and id > ${after} order by id limit ${BATCH_ROWS}`,
  );
}

/** Reads the user's imports, without the uploaded files, which are deleted when an import ends. */
export function readImports(sql: Sql, userId: string): AsyncGenerator<ExportedRow[]> {
  return readByKey(
    "id",
    (after) => sql<ExportedRow[]>`
      select id, source, status, bytes, conversations, imported, skipped, messages, error_code, created_at, finished_at
      from imports where user_id = ${userId} and id > ${after} order by id limit ${BATCH_ROWS}`,
  );
}

/** Reads all stored versions of the user's prompts. Each prompt's versions are ordered newest first. */
export async function* readPromptVersions(sql: Sql, userId: string): AsyncGenerator<ExportedRow[]> {
  for await (const prompts of readPrompts(sql, userId))
    for (const { id } of prompts) yield* readVersions(sql, String(id));
}

async function* readVersions(sql: Sql, promptId: string): AsyncGenerator<ExportedRow[]> {
  let beforeVersion = 2 ** 31 - 1;
  for (;;) {
    const rows = await sql<(ExportedRow & { version: number })[]>`
      select prompt_id, version, template, created_at from prompt_versions
      where prompt_id = ${promptId} and version < ${beforeVersion} order by version desc limit ${BATCH_ROWS}`;
    if (rows.length > 0) yield rows;
    if (rows.length < BATCH_ROWS) return;
    beforeVersion = rows.at(-1)?.version ?? 0;
  }
}

/** Reads the user's model usage per day and month (UTC), as far back as it is kept. */
export async function* readUsage(sql: Sql, userId: string): AsyncGenerator<ExportedRow[]> {
  // There are only a few hundred rows a year: one per day and one per month.
  yield await sql<ExportedRow[]>`
    select period, starts_on, spent_tokens, spent_usd from budget_windows
    where scope = 'user' and scope_id = ${userId} order by period, starts_on`;
}

/** Reads the audit events about the user, without other users' ids and IP addresses. */
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

/** Reads all rows in batches. @param key the column by which the rows are ordered. @param readBatch reads the rows after this key. */
async function* readByKey(
  key: string,
  readBatch: (afterKey: string) => Promise<ExportedRow[]>,
): AsyncGenerator<ExportedRow[]> {
  let afterKey = NIL_UUID;
  for (;;) {
    const rows = await readBatch(afterKey);
    if (rows.length > 0) yield rows;
    if (rows.length < BATCH_ROWS) return;
    afterKey = String(rows.at(-1)?.[key]);
  }
}
