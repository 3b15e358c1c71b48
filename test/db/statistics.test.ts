import { expect, test } from "bun:test";
import { gatherStatistics } from "../../src/db/statistics.ts";
import { createTestDatabase } from "../support/postgres.ts";

test("a table analyzed before its rows were committed is analyzed again, once", async () => {
  const { database } = await createTestDatabase();
  await database.begin(async (sql) => {
    await sql`
      insert into conversations (id, kind, reply_mode)
      select gen_random_uuid(), 'direct', 'never' from generate_series(1, 5000)`;
    expect(await gatherStatistics(database)).toContain("conversations");
  });
  // The server counts rows a moment after their commit.
  const endsAtMs = Date.now() + 5_000;
  while (!(await gatherStatistics(database)).includes("conversations") && Date.now() < endsAtMs) await Bun.sleep(50);
  // Or the server's autovacuum is running just then.
  const count = async () => {
    const [table] = await database<
      { reltuples: number }[]
    >`select reltuples from pg_class where relname = 'conversations'`;
    return table?.reltuples;
  };
  while ((await count()) !== 5_000 && Date.now() < endsAtMs) await Bun.sleep(50);
  expect(await count()).toBe(5_000);
  expect(await gatherStatistics(database)).toEqual([]);
  await database.end({ timeout: 1 });
}, 20_000);
