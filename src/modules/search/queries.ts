import type { Sql } from "../../db/client.ts";
import type { MessageRow } from "../../protocol/message.ts";
import type { ParsedQuery } from "./parse-query.ts";

/** Maximum UTF-16 code units of a message that are indexed, and searched for a snippet. */
const TEXT_CHARS_MAX = 60_000;
/** Maximum number of outbox rows that a search scans. The outbox has more rows only if the indexer lags behind. */
const OUTBOX_ROWS_MAX = 1_000;
/** Maximum number of unindexed messages that a search includes. */
const UNINDEXED_MESSAGES_MAX = 500;

/** A message with the beginning of its text. */
export type IndexableMessage = { conversation_id: string; seq: number; role: string; at: Date; content: string };

/** A message whose current text isn't indexed. `content` is null if the message must not be found. */
export type UnindexedMessage = Omit<IndexableMessage, "content"> & { content: string | null };

export async function listUnindexedMessages(sql: Sql, userId: string): Promise<UnindexedMessage[]> {
  return sql<UnindexedMessage[]>`
    select conversation_id, seq, role, at, content
    from list_unindexed(${userId}, ${OUTBOX_ROWS_MAX}, ${UNINDEXED_MESSAGES_MAX}, ${TEXT_CHARS_MAX})`;
}

/** Lists the stems of words. */
export async function listStems(sql: Sql, language: string, words: string): Promise<string[]> {
  const [row] = await sql<{ stems: string[] }[]>`
    select tsvector_to_array(to_tsvector(${language}::text::regconfig, ${words})) as stems`;
  return row?.stems ?? [];
}

export type SearchOptions = {
  userId: string;
  query: ParsedQuery;
  language: string;
  conversationId: string | null;
  role: string | null;
  from: Date | null;
  to: Date | null;
  /** Messages whose current text isn't indexed. `words` is null if a message must not be found. */
  unindexedMessages: (UnindexedMessage & { words: string | null })[];
  after: Position | null;
  limit: number;
};

/** The sort position of a match. */
export type Position = { rank: number; at: Date; id: string };

export type HitRow = Position &
  Pick<
    MessageRow,
    "conversation_id" | "seq" | "role" | "author_id" | "author_name" | "hook_id" | "hook_name" | "model" | "content"
  > & { title: string };

export async function search(sql: Sql, options: SearchOptions): Promise<HitRow[]> {
  const { userId, query, language, conversationId, role, from, to, unindexedMessages, after, limit } = options;
  const terms = query.flatMap((branch, index) => branch.map((term) => ({ ...term, branch: index })));
  return sql<HitRow[]>`
    select h.message_id as id, h.conversation_id, h.seq, h.rank, h.at, c.title, m.role, m.author_id, m.model,
      (select u.display_name from users u where u.id = m.author_id) as author_name,
      m.hook_id, m.hook_name, left(m.content, ${TEXT_CHARS_MAX}) as content
    from search_messages(${userId}, ${terms.map(({ branch }) => branch)}::integer[],
      ${terms.map(({ kind }) => kind)}::text[], ${terms.map(({ words }) => `'${words.join(" ")}'`)}::text[],
      ${language}::text::regconfig, ${conversationId}, ${role}, ${from}, ${to},
      ${unindexedMessages.map(({ conversation_id }) => conversation_id)}::uuid[],
      ${unindexedMessages.map(({ seq }) => seq)}::bigint[], ${unindexedMessages.map((message) => message.role)}::text[],
      ${unindexedMessages.map(({ at }) => at.toISOString())}::text[]::timestamptz[],
      ${unindexedMessages.map(({ words }) => words)}::text[],
      ${after?.rank ?? null}, ${after?.at ?? null}, ${after?.id ?? null}, ${limit}) h
    cross join lateral (
      select x.* from messages x where x.conversation_id = h.conversation_id and x.seq = h.seq offset 0
    ) m
    cross join lateral (select x.title from conversations x where x.id = h.conversation_id offset 0) c
    order by h.rank desc, h.at desc, h.message_id desc`;
}

/**
 * Inserts `marks` around matches. Returns each excerpt twice: with exact matches marked, and with words of the same stem marked.
 */
export async function highlightHits(
  sql: Sql,
  {
    excerpts,
    query,
    language,
    marks,
  }: { excerpts: string[]; query: ParsedQuery; language: string; marks: [string, string] },
): Promise<{ exact: string; stems: string }[]> {
  const terms = query.flat();
  const options = `HighlightAll=true,StartSel=${marks[0]},StopSel=${marks[1]}`;
  return sql<{ exact: string; stems: string }[]>`
    select ts_headline('pg_catalog.simple', t.content, q.rank_query, ${options}) as exact,
      ts_headline(${language}::text::regconfig, t.content, q.rank_query, ${options}) as stems
    from create_search_queries(${terms.map(() => 0)}::integer[], ${terms.map(({ kind }) => kind)}::text[],
        ${terms.map(({ words }) => `'${words.join(" ")}'`)}::text[], ${language}::text::regconfig) q,
      unnest(${excerpts}::text[]) with ordinality as t (content, n)
    order by t.n`;
}

/** Locks and returns up to `limit` messages to index in this transaction. Returns null if another instance is indexing. */
export async function claimMessages(
  sql: Sql,
  limit: number,
): Promise<(IndexableMessage & { is_new: boolean })[] | null> {
  const [lock] = await sql<{ locked: boolean }[]>`select lock_search_index(false) as locked`;
  if (!lock?.locked) return null;
  return sql<(IndexableMessage & { is_new: boolean })[]>`
    select conversation_id, seq, role, at, content, is_new from take_search_work(${limit}, ${TEXT_CHARS_MAX})`;
}

export async function storeEntries(
  sql: Sql,
  language: string,
  messages: (IndexableMessage & { words: string })[],
  isNew: boolean,
): Promise<void> {
  await sql`
    select store_search_entries(${messages.map(({ conversation_id }) => conversation_id)}::uuid[],
      ${messages.map(({ seq }) => seq)}::bigint[], ${messages.map(({ role }) => role)}::text[],
      ${messages.map(({ at }) => at.toISOString())}::text[]::timestamptz[], ${messages.map(({ words }) => words)}::text[],
      ${language}::text::regconfig, ${isNew})`;
}

/** Merges the index's pending list at the end of a batch, because it slows down searches and later writes. */
export async function mergeEntries(sql: Sql): Promise<void> {
  await sql`select merge_search_entries()`;
}

/** Returns whether messages or existing conversations must be indexed. The query is cheap, because it runs every second. */
export async function findSearchWork(
  sql: Sql,
  language: string,
): Promise<{ hasMessages: boolean; hasBackfill: boolean }> {
  const [row] = await sql<{ has_messages: boolean; has_backfill: boolean }[]>`
    select exists (select from search_outbox) or exists (select from search_ranges) as has_messages,
      exists (select from search_state where before_id is not null or language <> ${language}) as has_backfill`;
  return { hasMessages: row?.has_messages ?? false, hasBackfill: row?.has_backfill ?? false };
}

/** Restarts indexing if the index was built for another language. */
export async function setLanguage(sql: Sql, language: string): Promise<void> {
  await sql`select set_search_language(${language})`;
}

/** Queues a batch of existing conversations for indexing. Returns whether there may be more. */
export async function queueBackfill(sql: Sql, limit: number): Promise<boolean> {
  const [row] = await sql<{ more: boolean }[]>`select add_search_backfill(${limit}) as more`;
  return row?.more ?? false;
}
