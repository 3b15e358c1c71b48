import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Database } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import { createTestDatabase } from "../support/postgres.ts";

const repositoryDir = join(import.meta.dir, "../..");
let database: Database;
beforeAll(async () => {
  ({ database } = await createTestDatabase());
});
afterAll(() => database.end({ timeout: 1 }));

/** Tables that can be partitioned by conversation. */
const partitionableTables = [
  "activity_moves",
  "analytics_conversations",
  "analytics_deleted_conversations",
  "events",
  "feedback",
  "former_members",
  "generation_pieces",
  "generation_thinking",
  "generations",
  "member_activity",
  "members",
  "messages",
  "summaries",
  "webhook_farewells",
  "search_entries",
];

/** Tables with a `conversation_id` that can't be partitioned by it, because their rows belong to a user or a webhook. */
const unpartitionableTables = ["hooks", "import_sources", "search_ranges", "webhook_deliveries"];

test("partitionable tables have conversation_id first in the primary key and in every unique index", async () => {
  const tables = await database<{ table: string }[]>`
    select c.relname as table from pg_attribute a join pg_class c on c.oid = a.attrelid
    where a.attname = 'conversation_id' and c.relkind = 'r' and c.relnamespace = 'public'::regnamespace order by 1`;
  expect(tables.map(({ table }) => table)).toEqual([...partitionableTables, ...unpartitionableTables].sort());
  const indexes = await database<{ table: string; isPrimary: boolean; columns: string[] }[]>`
    select i.indrelid::regclass::text as table, i.indisprimary as "isPrimary", array(
      select a.attname::text from unnest(i.indkey) with ordinality k (attnum, n)
      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum order by k.n) as columns
    from pg_index i where i.indisunique and i.indrelid::regclass::text = any (${partitionableTables})`;
  expect(indexes.filter(({ isPrimary }) => isPrimary).map(({ columns }) => columns[0])).toEqual(
    partitionableTables.map(() => "conversation_id"),
  );
  expect(indexes.filter(({ columns }) => !columns.includes("conversation_id"))).toEqual([]);
});

test("messages are indexed by sequence number, ID, and author with client_message_id", async () => {
  const rows = await database<{ name: string; definition: string }[]>`
    select indexname as name, indexdef as definition from pg_indexes where tablename = 'messages' order by 1`;
  const getColumns = (name: string) => /\(([^)]*)\)/.exec(rows.find((row) => row.name === name)?.definition ?? "")?.[1];
  expect(getColumns("messages_pkey")).toBe("conversation_id, seq");
  expect(getColumns("messages_author")).toBe("author_id, conversation_id, client_message_id");
  expect(getColumns("messages_id")).toStartWith("id");
});

test("lookups scan a single partition if the messages table is partitioned by hash", async () => {
  const rollback = new Error("rolled back");
  const transaction = database.begin(async (sql) => {
    await sql`create table parts (like messages including all) partition by hash (conversation_id)`;
    for (let n = 0; n < 4; n += 1)
      await sql.unsafe(`create table parts_${n} partition of parts for values with (modulus 4, remainder ${n})`);
    await sql`set local plan_cache_mode = force_generic_plan`;
    const prunesPartitions = async (text: string) => {
      await sql.unsafe(`prepare look_up (uuid, uuid, text) as ${text}`);
      const rows = await sql.unsafe(
        `explain (analyze, costs off) execute look_up ('${createId()}', '${createId()}', 'c')`,
      );
      await sql`deallocate look_up`;
      const lines = rows.map((row) => String(row["QUERY PLAN"])).join("\n");
      return lines.includes("Subplans Removed: 3");
    };
    for (const text of [
      "select 1 from parts where conversation_id = $1 and id = $2 and $3 <> ''",
      "select 1 from parts where conversation_id = $1 and author_id = $2 and client_message_id = $3",
      "select 1 from parts where conversation_id = $1 and parent_id = $2 and $3 <> ''",
    ])
      expect({ text, isPruned: await prunesPartitions(text) }).toEqual({ text, isPruned: true });
    throw rollback;
  });
  await transaction.catch((error: unknown) => {
    if (error !== rollback) throw error;
  });
});

describe("value constraints", () => {
  const invalidRows: [string, string, Record<string, unknown>][] = [
    ["an unknown message role", "messages", { role: "robot" }],
    ["an unknown message status", "messages", { status: "lost" }],
    ["an unknown finish reason", "messages", { finish_reason: "bored" }],
    ["a message with sequence number 0", "messages", { seq: 0 }],
    ["an event of a type that isn't stored", "events", { type: "message.created" }],
    ["an event with a negative sequence number", "events", { seq: -1 }],
    ["an unknown generation status", "generations", { status: "waiting" }],
    ["a running generation without an owner", "generations", { status: "running", lease_until: new Date() }],
    [
      "a running generation without a lease",
      "generations",
      { status: "running", owner: createId(), lease_until: null },
    ],
    ["an unknown member role", "members", { role: "guest" }],
  ];
  const validRows: Record<string, Record<string, unknown>> = {
    messages: { seq: 1, id: createId(), role: "user", content: "" },
    events: { seq: 1, type: "member.added", at: new Date() },
    generations: { id: createId(), message_id: createId(), message_seq: 1 },
    members: { user_id: createId(), role: "member" },
  };

  test.each(invalidRows)("reject %s", async (_name, table, invalidFields) => {
    const insertRow = (row: Record<string, unknown>) =>
      database.begin(async (sql) => {
        await sql`set local session_replication_role = replica`;
        await sql`insert into ${sql(table)} ${sql({ conversation_id: createId(), ...validRows[table], ...row })}`;
      });
    await insertRow({});
    expect(insertRow(invalidFields)).rejects.toMatchObject({ code: "23514" });
    await insertRow(invalidFields).catch(() => {});
  });
});

describe("writing to the event log:", () => {
  const listFiles = (folder: string): string[] =>
    readdirSync(join(repositoryDir, folder), { recursive: true, encoding: "utf8" })
      .filter((name) => /\.(?:ts|sql)$/.test(name))
      .map((name) => join(folder, name));
  const sources = [...listFiles("sql"), ...listFiles("src")].map((name) => ({
    name,
    text: readFileSync(join(repositoryDir, name), "utf8").replaceAll(/^\s*(?:--|\/\/|\*|\/\*).*$/gm, ""),
  }));
  const findWriters = (pattern: RegExp) => sources.filter(({ text }) => pattern.test(text)).map(({ name }) => name);

  test("only take_positions changes last_seq", () => {
    expect(findWriters(/\bset\b[^;]*\blast_seq\s*=/i)).toEqual(["sql/functions/take_positions.sql"]);
    expect(findWriters(/insert\s+into\s+conversations\b[^;]*\blast_seq\b/i)).toEqual([]);
  });

  test("events are inserted only by append_events, and changed only to remove a name or erase a conversation", () => {
    expect(findWriters(/insert\s+into\s+events\b/i)).toEqual(["sql/functions/append_events.sql"]);
    expect(findWriters(/(?:update|delete\s+from)\s+events\b/i)).toEqual([
      "sql/functions/erase_deleted.sql",
      "src/modules/accounts/deletion-queries.ts",
    ]);
  });

  test("only the event log publishes stored event types", () => {
    const publishers = sources.filter(({ text }) => /\bbus\.publish\(/i.test(text));
    const otherPublishers = publishers.filter(({ name }) => name !== "src/events/log.ts");
    expect(otherPublishers.length).toBe(publishers.length - 1);
    for (const { text } of otherPublishers)
      expect(text).not.toMatch(
        /bus\.publish\([^;]*"(?:message\.(?:c|u|dele)|member\.|conversation\.(?:updated|deleted))/,
      );
  });
});
