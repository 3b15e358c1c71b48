import { requireRow, type Sql } from "../../db/client.ts";
import type { Prompt, PromptVersion } from "./model.ts";

/** Maximum conversations from which a prompt is removed per statement. */
const RELEASE_BATCH_CONVERSATIONS = 1_000;
/** Maximum prompts deleted per statement; each may have many versions. */
const DELETE_BATCH_PROMPTS = 10;

export type PromptRow = Omit<Prompt, "created_at" | "updated_at"> & { created_at: Date; updated_at: Date };
export type VersionRow = Omit<PromptVersion, "created_at"> & { created_at: Date };

const columns = (sql: Sql) => sql`p.id, p.name, v.template, p.version, p.is_default, p.created_at, p.updated_at`;
const newestVersions = (sql: Sql) =>
  sql`prompts p join prompt_versions v on v.prompt_id = p.id and v.version = p.version`;

/** Finds one of this user's prompts. Returns undefined for other users' prompts. */
export async function findPrompt(sql: Sql, id: string, userId: string): Promise<PromptRow | undefined> {
  const [row] = await sql<PromptRow[]>`
    select ${columns(sql)} from ${newestVersions(sql)} where p.id = ${id} and p.user_id = ${userId} and p.deleted_at is null`;
  return row;
}

/** Lists the user's prompts, newest first, starting after `afterId`. */
export async function listPrompts(sql: Sql, userId: string, afterId: string | null, limit: number) {
  const afterCondition = afterId ? sql`and p.id < ${afterId}` : sql``;
  return sql<PromptRow[]>`
    select ${columns(sql)} from ${newestVersions(sql)} where p.user_id = ${userId} and p.deleted_at is null ${afterCondition}
    order by p.id desc limit ${limit}`;
}

/** Lists the versions of a prompt that are older than `beforeVersion`, newest first. */
export async function listVersions(sql: Sql, id: string, beforeVersion: number | null, limit: number) {
  const beforeCondition = beforeVersion === null ? sql`` : sql`and version < ${beforeVersion}`;
  return sql<VersionRow[]>`
    select version, template, created_at from prompt_versions
    where prompt_id = ${id} ${beforeCondition} order by version desc limit ${limit}`;
}

/** Prevents a prompt's deletion until the transaction ends. Returns whether the user has this prompt. */
export async function lockPrompt(sql: Sql, id: string, userId: string): Promise<boolean> {
  const rows = await sql`
    select 1 from prompts where id = ${id} and user_id = ${userId} and deleted_at is null for key share`;
  return rows.length > 0;
}

export async function findDefaultPrompt(sql: Sql, userId: string): Promise<string | null> {
  const [row] = await sql<{ id: string }[]>`select id from prompts where user_id = ${userId} and is_default`;
  return row?.id ?? null;
}

/** Prevents concurrent changes to a user's prompts until the transaction ends. Returns the number of prompts. */
export async function lockAndCountPrompts(sql: Sql, userId: string): Promise<number> {
  await sql`select 1 from users where id = ${userId} for no key update`;
  const [row] = await sql<{ count: number }[]>`
    select count(*)::int as count from prompts where user_id = ${userId} and deleted_at is null`;
  return row?.count ?? 0;
}

export async function clearDefaultPrompt(sql: Sql, userId: string): Promise<void> {
  await sql`update prompts set is_default = false where user_id = ${userId} and is_default`;
}

type NewPrompt = { id: string; userId: string; name: string; isDefault: boolean };

export async function insertPrompt(sql: Sql, { id, userId, name, isDefault }: NewPrompt): Promise<void> {
  await sql`
    insert into prompts (id, user_id, name, is_default) values (${id}, ${userId}, ${name}, ${isDefault})`;
}

export async function insertVersion(sql: Sql, id: string, version: number, template: string): Promise<void> {
  await sql`
    with inserted as (
      insert into prompt_versions (prompt_id, version, template) values (${id}, ${version}, ${template})
      returning octet_length(template) as bytes
    )
    update prompts p set versions = p.versions + 1, stored_bytes = p.stored_bytes + i.bytes
    from inserted i where p.id = ${id}`;
}

export async function countVersions(sql: Sql, id: string): Promise<number> {
  const [row] = await sql<{ versions: number }[]>`select versions from prompts where id = ${id}`;
  return row?.versions ?? 0;
}

/** Deletes a version of a prompt. Returns whether it existed. */
export async function deleteVersion(sql: Sql, id: string, version: number): Promise<boolean> {
  const { count } = await sql`
    with deleted as (
      delete from prompt_versions where prompt_id = ${id} and version = ${version}
      returning octet_length(template) as bytes
    )
    update prompts p set versions = p.versions - 1, stored_bytes = p.stored_bytes - d.bytes
    from deleted d where p.id = ${id}`;
  return count > 0;
}

export async function updatePrompt(
  sql: Sql,
  id: string,
  { name, version, is_default }: Pick<PromptRow, "name" | "version" | "is_default">,
): Promise<Pick<PromptRow, "updated_at">> {
  const [row] = await sql<Pick<PromptRow, "updated_at">[]>`
    update prompts set name = ${name}, version = ${version}, is_default = ${is_default}, updated_at = now()
    where id = ${id} returning updated_at`;
  return requireRow(row, "prompt");
}

/** Marks a prompt as deleted. It is not found after that. Returns whether the user had this prompt. */
export async function markPromptDeleted(sql: Sql, id: string, userId: string): Promise<boolean> {
  const { count } = await sql`
    update prompts set deleted_at = now(), is_default = false
    where id = ${id} and user_id = ${userId} and deleted_at is null`;
  return count > 0;
}

export async function promptExists(sql: Sql, id: string): Promise<boolean> {
  return (await sql`select 1 from prompts where id = ${id}`).length > 0;
}

/** A prompt, or all prompts of a user. */
export type PromptSelection = { id: string } | { userId: string };

const selectPrompts = (sql: Sql, selection: PromptSelection) =>
  sql`select p.id from prompts p where ${"id" in selection ? sql`p.id = ${selection.id}` : sql`p.user_id = ${selection.userId}`}`;

/**
 * Removes prompts from a batch of the conversations that use them, except locked ones. Call this before deleting the prompts.
 * Otherwise the foreign key would lock all these conversations in one statement.
 * @returns whether more conversations may use the prompts.
 */
export async function releasePrompts(sql: Sql, selection: PromptSelection): Promise<boolean> {
  const { count } = await sql`
    update conversations set prompt_id = null where id = any (array(
      select c.id from conversations c where c.prompt_id in (${selectPrompts(sql, selection)})
      limit ${RELEASE_BATCH_CONVERSATIONS} for no key update skip locked))`;
  return count === RELEASE_BATCH_CONVERSATIONS;
}

/** Deletes a batch of prompts. Waits for locked conversations that use them. Returns the number of deleted prompts. */
export async function deletePrompts(sql: Sql, selection: PromptSelection): Promise<number> {
  const { count } = await sql`
    delete from prompts where id = any (array(${selectPrompts(sql, selection)} limit ${DELETE_BATCH_PROMPTS}))`;
  return count;
}

export function mapToPrompt(row: PromptRow): Prompt {
  return { ...row, created_at: row.created_at.toISOString(), updated_at: row.updated_at.toISOString() };
}

export function mapToVersion(row: VersionRow): PromptVersion {
  return { ...row, created_at: row.created_at.toISOString() };
}
