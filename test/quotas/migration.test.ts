import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { readQuotas, startQuotas, type WithQuotas } from "./start-quotas.ts";

const migration = readFileSync(join(import.meta.dir, "../../sql/migrations/0015_counts.sql"), "utf8");

let quotas: WithQuotas;
beforeAll(async () => {
  quotas = await startQuotas({});
});
afterAll(() => quotas.stop());

test("rows from before the migration count like those from after it", async () => {
  const [anna, ben] = [await quotas.join(), await quotas.join()];
  const id = await quotas.openConversation(anna);
  for (const role of ["member", "owner"])
    await anna.request("POST", `/conversations/${id}/members`, { user_id: ben.id, role });
  await quotas.openConversation(ben);
  const prompt = await anna.request<{ id: string }>("POST", "/prompts", { name: "P", template: "zwölf" });
  await anna.request("PATCH", `/prompts/${prompt.body.id}`, { template: "elf" });
  const [before, beforeOfBen] = [await readQuotas(anna), await readQuotas(ben)];
  expect(before).toMatchObject({ conversations: { used: 1 }, prompt_versions: { used: 2 }, stored_bytes: { used: 9 } });
  expect(beforeOfBen).toMatchObject({ conversations: { used: 1 }, joined_conversations: { used: 1 } });

  const { database } = quotas.parley;
  await database.begin(async (sql) => {
    await sql`drop table member_activity`;
    await sql`update members set is_creator = false, written_bytes = 0`;
    await sql`update prompts set versions = 0, stored_bytes = 0`;
    await sql.unsafe(migration);
  });
  // Earlier counts are cached for a while.
  await Bun.sleep(300);
  expect([await readQuotas(anna), await readQuotas(ben)]).toEqual([before, beforeOfBen]);
});
