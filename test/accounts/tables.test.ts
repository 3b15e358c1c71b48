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

/** What is exported as a list of its own; `users` and `preferences` stand at the head. */
const exported = [
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
/** Not exported, because: */
const reasons: Record<string, string> = {
  analytics_users: "a number for the user; what is counted of them follows from messages that are exported",
  budget_reservations: "lives as long as an answer is written; the window holds what was spent",
  former_members: "a position and a count; what was written there is exported",
  generations: "the answers themselves are exported",
  import_sources: "which conversation came from where; the conversation's metadata says it as well",
  idempotency_keys: "hashes and sealed answers of a day",
  member_activity: "the order of the memberships' list; its times are those of the conversations",
  search_counts: "how many entries of the search index name the user",
  search_ranges: "messages that wait to be indexed for the user",
  tickets: "a secret of 30 seconds",
  webhook_deliveries: "what became of sending what is exported; its user is whom an event is about",
};

test("every table that refers to a user has its place in the deletion, and in the export or a reason", async () => {
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
  // Whether the title came from a person or from a model; it does not say from whom.
  const tables = rows.map(({ table }) => table).filter((table) => table !== "conversations");
  expect(tables).toEqual([...exported, ...Object.keys(reasons)].sort());
  const decision = readFileSync(join(import.meta.dir, "../../docs/decisions/0040-deleting-a-user.md"), "utf8");
  expect(tables.filter((table) => !decision.includes(`\`${table}\``))).toEqual([]);
});
