import type { Sql } from "../../db/client.ts";
import { enqueue } from "../../jobs/queue.ts";
import type { ImportedConversation, ImportedMessage } from "./conversation-builder.ts";
import type { ImportError } from "./import-error.ts";
import { type Import, type ImportNote, type ImportSource, type ImportSummary, NOTES_MAX } from "./model.ts";

/** The job queue of imports; its keys are import ids. */
export const IMPORTS = "imports";

/** An upload without new bytes for this long is abandoned: its instance crashed, or lost its database connection. */
const UPLOAD_TIMEOUT = "5 minutes";
/** Imports that are not finished after this time fail, and their files are deleted. */
const FILE_RETENTION = "1 day";
/** Reports are deleted this long after the import finished. */
const REPORT_RETENTION = "30 days";
const SWEEP_BATCH_ROWS = 20;

export type ImportRow = {
  id: string;
  user_id: string;
  source: ImportSource;
  status: ImportSummary["status"];
  bytes: number;
  conversations: number;
  imported: number;
  skipped: number;
  messages: number;
  noted: number;
  error_code: string | null;
  error_detail: string | null;
  created_at: Date;
  finished_at: Date | null;
};

const columns = (sql: Sql) => sql`
  i.id, i.user_id, i.source, i.status, i.bytes, i.conversations, i.imported, i.skipped, i.messages, i.noted, i.error_code,
  i.error_detail, i.created_at, i.finished_at`;

/** Starts an upload. Returns false if the user has another unfinished import. */
export async function insertImport(sql: Sql, id: string, userId: string, source: ImportSource): Promise<boolean> {
  // An abandoned upload doesn't block a new one.
  await sql`
    delete from imports where user_id = ${userId} and status = 'uploading' and updated_at < now() - ${UPLOAD_TIMEOUT}::interval`;
  const { count } = await sql`
    insert into imports (id, user_id, source) values (${id}, ${userId}, ${source})
    on conflict (user_id) where status in ('uploading', 'queued', 'running') do nothing`;
  return count === 1;
}

/** Marks an upload as still in progress. */
export async function touchUpload(sql: Sql, id: string): Promise<void> {
  await sql`update imports set updated_at = now() where id = ${id} and status = 'uploading'`;
}

/** Deletes an aborted upload. */
export async function deleteUpload(sql: Sql, id: string): Promise<void> {
  await sql`delete from imports where id = ${id} and status = 'uploading'`;
}

/**
 * Marks the file as complete and queues the import, which any instance may run. Call it in a transaction.
 * @returns false if the upload was aborted.
 */
export async function queueImport(sql: Sql, id: string): Promise<boolean> {
  const { count } = await sql`
    update imports set status = 'queued', updated_at = now() where id = ${id} and status = 'uploading'`;
  if (count === 1) await enqueue(sql, IMPORTS, [id]);
  return count === 1;
}

/** Marks an import as running. Returns undefined if it has already finished. */
export async function startImport(sql: Sql, id: string): Promise<ImportRow | undefined> {
  const [row] = await sql<ImportRow[]>`
    update imports i set status = 'running', updated_at = now()
    where i.id = ${id} and i.status in ('queued', 'running') returning ${columns(sql)}`;
  return row;
}

/** Marks an import as finished. @param error the reason why it failed; null if it succeeded. */
export async function finishImport(
  sql: Sql,
  id: string,
  error: Pick<ImportError, "code" | "detail"> | null,
): Promise<void> {
  await sql`
    update imports set status = ${error ? "failed" : "done"}, error_code = ${error?.code ?? null},
      error_detail = ${error?.detail ?? null}, updated_at = now(), finished_at = now()
    where id = ${id} and status = 'running'`;
}

/** Returns whether the user has imported from this source before. If not, there are no duplicates to look up. */
export async function hasImported(sql: Sql, { user_id, source }: ImportRow): Promise<boolean> {
  const rows = await sql`select 1 from import_sources where user_id = ${user_id} and source = ${source} limit 1`;
  return rows.length > 0;
}

/** Returns whether the user has already imported this conversation. */
export async function hasConversation(sql: Sql, { user_id, source }: ImportRow, sourceId: string): Promise<boolean> {
  const rows = await sql`
    select 1 from import_sources s
    join members m on m.conversation_id = s.conversation_id and m.user_id = s.user_id
    where s.user_id = ${user_id} and s.source = ${source} and s.source_id = ${sourceId}`;
  return rows.length > 0;
}

export type StoreOutcome = "stored" | "known" | "no_user" | "lost";

/**
 * Stores a batch of a conversation's messages. The first batch also creates the conversation (sql/functions/import_messages.sql).
 */
export async function importMessages(
  sql: Sql,
  importId: string,
  position: number,
  conversation: ImportedConversation,
  messages: readonly ImportedMessage[],
  startIndex: number,
): Promise<StoreOutcome> {
  const metadata = {
    id: conversation.id,
    source_id: conversation.sourceId,
    title: conversation.title,
    created_at: conversation.createdAt,
    updated_at: conversation.updatedAt,
    messages: conversation.messages.length,
    bytes: conversation.bytes,
    note: conversation.note ?? undefined,
  };
  const [row] = await sql<{ outcome: StoreOutcome }[]>`
    select import_messages(${importId}, ${position}, ${JSON.stringify(metadata)}::text::json,
      ${JSON.stringify(messages)}::text::json, ${startIndex}) as outcome`;
  if (!row) throw new Error("import_messages returned no row.");
  return row.outcome;
}

/** Counts and reports a skipped conversation. Returns false if another instance has taken over the import. */
export async function skipConversation(sql: Sql, id: string, position: number, note: ImportNote): Promise<boolean> {
  const rows = await sql`
    with counted as (
      update imports set conversations = conversations + 1, skipped = skipped + 1, noted = noted + 1, updated_at = now()
      where id = ${id} and status = 'running' and conversations = ${position} returning noted
    ), written as (
      insert into import_notes (import_id, n, title, reason)
      select ${id}, c.noted, ${note.title}, ${note.reason} from counted c where c.noted <= ${NOTES_MAX}
    )
    select 1 from counted`;
  return rows.length > 0;
}

/** Finds one of the user's imports. */
export async function findImport(sql: Sql, id: string, userId: string): Promise<ImportRow | undefined> {
  const [row] = await sql<ImportRow[]>`
    select ${columns(sql)} from imports i where i.id = ${id} and i.user_id = ${userId} and i.status <> 'uploading'`;
  return row;
}

export async function listNotes(sql: Sql, id: string): Promise<ImportNote[]> {
  return sql<ImportNote[]>`
    select title, reason from import_notes where import_id = ${id} order by n limit ${NOTES_MAX}`;
}

/** Lists a user's imports, newest first. */
export async function listImports(
  sql: Sql,
  userId: string,
  beforeId: string | null,
  limit: number,
): Promise<ImportRow[]> {
  const beforeCondition = beforeId === null ? sql`true` : sql`i.id < ${beforeId}`;
  return sql<ImportRow[]>`
    select ${columns(sql)} from imports i
    where i.user_id = ${userId} and i.status <> 'uploading' and ${beforeCondition} order by i.id desc limit ${limit}`;
}

/** Fails or deletes a batch of expired imports. Returns the number of affected imports. */
export async function sweepImports(sql: Sql, error: Pick<ImportError, "code" | "detail">): Promise<number> {
  const deletedUploads = await sql`
    delete from imports where id = any (array(
      select id from imports where status = 'uploading' and updated_at < now() - ${UPLOAD_TIMEOUT}::interval
      limit ${SWEEP_BATCH_ROWS} for update skip locked))`;
  const failedImports = await sql`
    update imports set status = 'failed', error_code = ${error.code}, error_detail = ${error.detail}, finished_at = now(),
      updated_at = now()
    where id = any (array(
      select id from imports where status in ('queued', 'running') and created_at < now() - ${FILE_RETENTION}::interval
      limit ${SWEEP_BATCH_ROWS} for update skip locked))`;
  const deletedReports = await sql`
    delete from imports where id = any (array(
      select id from imports where finished_at < now() - ${REPORT_RETENTION}::interval
      limit ${SWEEP_BATCH_ROWS} for update skip locked))`;
  return deletedUploads.count + failedImports.count + deletedReports.count;
}

/** Finds a finished import whose file hasn't been deleted yet. */
export async function findLeftoverFile(sql: Sql): Promise<string | undefined> {
  const [row] = await sql<{ id: string }[]>`
    select i.id from imports i where i.finished_at is not null
      and exists (select 1 from import_pieces p where p.import_id = i.id) limit 1`;
  return row?.id;
}

export const mapRowToSummary = (row: ImportRow): ImportSummary => ({
  id: row.id,
  source: row.source,
  status: row.status,
  bytes: row.bytes,
  conversations: row.conversations,
  imported: row.imported,
  skipped: row.skipped,
  messages: row.messages,
  error: row.error_code === null ? null : { code: row.error_code, detail: row.error_detail ?? "" },
  created_at: row.created_at.toISOString(),
  finished_at: row.finished_at?.toISOString() ?? null,
});

export const mapRowToImport = (row: ImportRow, report: ImportNote[]): Import => ({
  ...mapRowToSummary(row),
  report,
  report_omitted: Math.max(0, row.noted - report.length),
});
