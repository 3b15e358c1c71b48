import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Database } from "../../src/db/client.ts";
import { createTestDatabase } from "../support/postgres.ts";

let database: Database;
beforeAll(async () => {
  ({ database } = await createTestDatabase());
});
afterAll(() => database.end({ timeout: 1 }));

/** Tables whose rows are exported. */
const exportedTables = [
  "api_keys",
  "audit_events",
  "budget_windows",
  "feedback",
  "hooks",
  "identities",
  "imports",
  "members",
  "messages",
  "prompts",
  "sessions",
  "users",
  "webhooks",
];
/** Reasons why a table isn't exported. */
const exclusionReasons: Record<string, string> = {
  analytics_users: "a numeric id for the user; the counts are derived from exported messages",
  budget_reservations: "exists only while an answer is generated; the spending is in budget_windows",
  former_members: "a sequence number and a count; the messages are exported",
  generations: "the answers themselves are exported",
  import_sources: "the sources of imported conversations, which their metadata contains too",
  idempotency_keys: "hashes and encrypted responses, kept for a day",
  member_activity: "the order of the conversation list, derived from the conversations",
  search_counts: "the number of search index entries of the user",
  search_ranges: "messages to be indexed for the user",
  tickets: "a secret valid for 30 seconds",
  webhook_deliveries: "refers to the user that an event is about; these events are exported",
};

test("every table that refers to users is covered by the decision on deletion, and is either exported or excluded with a reason", async () => {
  const rows = await database<{ table: string }[]>`
    select distinct c.table_name as table from information_schema.columns c join information_schema.tables t
      on t.table_schema = c.table_schema and t.table_name = c.table_name and t.table_type = 'BASE TABLE'
    where c.table_schema = 'public' and (
      c.column_name ~ '^(user|author|owner|actor|target|scope|requester|member|creator)_id$' or c.column_name ~ '_by$')
    union
    select distinct t.relname::text from pg_constraint f join pg_class t on t.oid = f.conrelid
    where f.contype = 'f' and f.confrelid = 'users'::regclass
    union select 'users'
    order by 1`;
  // The column `conversations.titled_by` states whether a user or a model set the title, not which user.
  const tables = rows.map(({ table }) => table).filter((table) => table !== "conversations");
  expect(tables).toEqual([...exportedTables, ...Object.keys(exclusionReasons)].sort());
  const decision = readFileSync(join(import.meta.dir, "../../docs/decisions/0040-deleting-a-user.md"), "utf8");
  expect(tables.filter((table) => !decision.includes(`\`${table}\``))).toEqual([]);
});
