import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { getQuotas, type QuotaApp, startQuotas } from "./start-quotas.ts";

const migration = readFileSync(join(import.meta.dir, "../../sql/migrations/0015_counts.sql"), "utf8");

let quotas: QuotaApp;
beforeAll(async () => {
  quotas = await startQuotas({});
});
afterAll(() => quotas.stop());

test("rows that existed before the migration are counted like later rows", async () => {
  const [anna, ben] = [await quotas.register(), await quotas.register()];
  const id = await quotas.createConversation(anna);
  for (const role of ["member", "owner"])
    await anna.request("POST", `/conversations/${id}/members`, { user_id: ben.id, role });
  await quotas.createConversation(ben);
  const prompt = await anna.request<{ id: string }>("POST", "/prompts", { name: "P", template: "zwölf" });
  await anna.request("PATCH", `/prompts/${prompt.body.id}`, { template: "elf" });
  const [annasQuotas, bensQuotas] = [await getQuotas(anna), await getQuotas(ben)];
  expect(annasQuotas).toMatchObject({
    conversations: { used: 1 },
    prompt_versions: { used: 2 },
    stored_bytes: { used: 9 },
  });
  expect(bensQuotas).toMatchObject({ conversations: { used: 1 }, joined_conversations: { used: 1 } });

  const { database } = quotas.parley;
  await database.begin(async (sql) => {
    await sql`drop table member_activity`;
    await sql`update members set is_creator = false, written_bytes = 0`;
    await sql`update prompts set versions = 0, stored_bytes = 0`;
    await sql.unsafe(migration);
  });
  // Waits, because earlier counts are cached for a while.
  await Bun.sleep(300);
  expect([await getQuotas(anna), await getQuotas(ben)]).toEqual([annasQuotas, bensQuotas]);
});
