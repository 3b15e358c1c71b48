import type { Database, Sql } from "../../src/db/client.ts";

/** Strings that are easy to escape or parse incorrectly. */
export const DIFFICULT_STRINGS = [
  "tab\there",
  "two\nlines\r\nand three",
  "back\\slash \\N \\. \\t",
  "",
  "\\N",
  "\\.",
  "ünïcödé 漢字 🦜 \u0001\u007f",
  "quote \" ' ; -- $$",
];

/** Inserts users, each with a conversation and messages, and rows with every column type. The data is always the same. */
export async function fillDatabase(sql: Sql, { users = 5, messages = 40 } = {}): Promise<void> {
  await sql`
    insert into users (id, email, email_key, display_name, preferences, created_at)
    select md5('user ' || n)::uuid, 'p' || n || '@example.com', 'p' || n || '@example.com', 'Person ' || n,
      jsonb_build_object('n', n, 'text', E'a\nb'), '2026-01-01'::timestamptz + n * interval '1.000001 s'
    from generate_series(1, ${users}::int) n`;
  await sql`
    insert into conversations (id, title, kind, reply_mode, last_seq, created_at, documents, tools, reasoning_effort)
    select md5('conversation ' || n)::uuid, 'About ' || n, 'group', 'never', ${messages}::int, '2026-01-02',
      nullif(n % 3, 0) = 1, case n % 3 when 1 then 'true'::jsonb when 2 then '["b", "a"]' end,
      case when n % 2 = 0 then 'high' end
    from generate_series(1, ${users}::int) n`;
  await sql`
    insert into members (conversation_id, user_id, role, joined_at)
    select md5('conversation ' || n)::uuid, md5('user ' || n)::uuid, 'owner', '2026-01-02'
    from generate_series(1, ${users}::int) n`;
  await sql`
    insert into messages (conversation_id, seq, id, role, author_id, content, cost_usd, client_message_id, created_at,
      reasoning, output, reply_options)
    select md5('conversation ' || n)::uuid, seq, md5('message ' || n || ' ' || seq)::uuid, 'user', md5('user ' || n)::uuid,
      (${DIFFICULT_STRINGS}::text[])[1 + seq % ${DIFFICULT_STRINGS.length}::int] || ' ' || seq, seq / 7.0, 'c' || seq, '2026-01-03'::timestamptz + seq * interval '1 ms',
      nullif((${DIFFICULT_STRINGS}::text[])[1 + seq % ${DIFFICULT_STRINGS.length}::int], ''),
      case when seq % 2 = 0 then json_build_object('z', seq, 'a', (${DIFFICULT_STRINGS}::text[])[1 + seq % ${DIFFICULT_STRINGS.length}::int]) end,
      case when seq % 5 = 0 then '{"reply_format": {"schema": {"zebra": 1, "apple": null}}}'::json end
    from generate_series(1, ${users}::int) n, generate_series(1, ${messages}::int) seq`;
  await sql`
    insert into generations (conversation_id, id, message_id, message_seq, status, lease_until, reasoning_effort, reply_format)
    select md5('conversation ' || n)::uuid, md5('generation ' || n)::uuid, md5('message ' || n || ' 1')::uuid, 1, 'finished', null, 'low',
      '{"schema": {"zebra": 1, "apple": "\\u00e9"}}'
    from generate_series(1, ${users}::int) n`;
  await sql`
    insert into generation_pieces (conversation_id, generation_id, n, text, reasoning)
    select md5('conversation ' || n)::uuid, md5('generation ' || n)::uuid, 1, '', E'a\nb\\c'
    from generate_series(1, ${users}::int) n`;
  await sql`
    insert into sessions (id, user_id, refresh_key, expires_at)
    select md5('session ' || n)::uuid, md5('user ' || n)::uuid, decode(md5('key ' || n), 'hex'), '2036-01-01'
    from generate_series(1, ${users}::int) n`;
  await sql`
    insert into search_outbox (conversations, messages)
    select array[md5('conversation ' || n)::uuid], array[md5('message ' || n || ' 1')::uuid]
    from generate_series(1, ${users}::int) n`;
  await sql`insert into audit_events (id, action, details) values (md5('audit')::uuid, 'user.created', '{"a": [1, null, "x\\\\y"]}')`;
  await sql`insert into tickets (hash, api_key_id, expires_at) values ('\\x00', md5('ticket')::uuid, now())`;
}

export type TableSummaries = Record<string, { rows: number; checksum: string }>;

/** Computes the row count and checksum of each table, independently of the backup code. */
export async function summarizeTables(
  database: Database,
  ignoredTables: readonly string[] = [],
): Promise<TableSummaries> {
  const tables = await database<{ name: string }[]>`
    select relname as name from pg_class
    where relnamespace = current_schema()::regnamespace and relkind = 'r' and relpersistence = 'p' order by 1`;
  const summaries: TableSummaries = {};
  for (const { name } of tables) {
    if (ignoredTables.includes(name)) continue;
    const [summary] = await database<{ rows: number; checksum: string }[]>`
      select count(*)::int as rows,
        coalesce(md5(string_agg(md5(t::text), '' order by t::text collate "C")), '') as checksum
      from ${database(name)} t`;
    if (summary) summaries[name] = summary;
  }
  return summaries;
}
