import { expect, test } from "bun:test";
import { gatherStatistics } from "../../src/db/statistics.ts";
import { createTestDatabase } from "../support/postgres.ts";

test("a table that was analyzed before its rows were committed is analyzed once more", async () => {
  const { database } = await createTestDatabase();
  await database.begin(async (sql) => {
    await sql`
      insert into conversations (id, kind, reply_mode)
      select gen_random_uuid(), 'direct', 'never' from generate_series(1, 5000)`;
    expect(await gatherStatistics(database)).toContain("conversations");
  });
  // Postgres updates its row counts shortly after the commit.
  const deadlineMs = Date.now() + 5_000;
  while (!(await gatherStatistics(database)).includes("conversations") && Date.now() < deadlineMs) await Bun.sleep(50);
  // Autovacuum may be analyzing the table at the same time.
  const getEstimatedRowCount = async () => {
    const [table] = await database<
      { reltuples: number }[]
    >`select reltuples from pg_class where relname = 'conversations'`;
    return table?.reltuples;
  };
  while ((await getEstimatedRowCount()) !== 5_000 && Date.now() < deadlineMs) await Bun.sleep(50);
  expect(await getEstimatedRowCount()).toBe(5_000);
  expect(await gatherStatistics(database)).toEqual([]);
  await database.end({ timeout: 1 });
}, 20_000);
