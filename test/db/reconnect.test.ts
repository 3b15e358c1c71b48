import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Database, isDatabaseUnavailable, withTransaction } from "../../src/db/client.ts";
import { createTestDatabase } from "../support/postgres.ts";

// Without patches/postgres, losing a connection can crash the process, leave queries hanging, return results to the wrong
// query, and run statements of a lost transaction outside it.
const ROUNDS = 12;
const ROUND_MS = 120;

let database: Database;
let adminDatabase: Database;

beforeAll(async () => {
  const testDatabase = await createTestDatabase(6);
  database = testDatabase.database;
  adminDatabase = (await createTestDatabase(1)).database;
  await database`create table pairs (pair int not null)`;
});

afterAll(async () => {
  await database.end({ timeout: 1 });
  await adminDatabase.end({ timeout: 1 });
});

test("lost connections don't hang queries, mix up results, or split transactions", async () => {
  const [currentDatabase] = await database<{ name: string }[]>`select current_database() as name`;
  const unexpectedErrors: unknown[] = [];
  const unexpectedResults: unknown[] = [];
  const runningWorkers = new Map<string, number>();
  let isStopping = false;
  let lastNumber = 0;
  let failureCount = 0;

  const expectEqual = (received: unknown, expected: unknown) => {
    if (received !== expected) unexpectedResults.push({ received, expected });
  };
  const workers: Record<string, (number: number) => Promise<void>> = {
    async selectPrepared(number) {
      const [row] = await database<{ number: number }[]>`select ${number}::int as number`;
      expectEqual(row?.number, number);
    },
    async selectFromArray(number) {
      const [row] = await database<{ sum: number }[]>`
        select sum(value)::int as sum from unnest(${[number, 1]}::int[]) as value`;
      expectEqual(row?.sum, number + 1);
    },
    async selectUnprepared(number) {
      const rows = await database.unsafe(`select ${number} as number`);
      expectEqual(rows[0]?.number, number);
    },
    async selectSlowly(number) {
      const [row] = await database<{ number: number }[]>`select ${number}::int as number, pg_sleep(0.02)`;
      expectEqual(row?.number, number);
    },
    async insertPairWithClientPause(number) {
      await withTransaction(database, async (sql) => {
        await sql`insert into pairs (pair) values (${number})`;
        await Bun.sleep(3);
        await sql`insert into pairs (pair) values (${number})`;
      });
    },
    async insertPairWithServerPause(number) {
      await withTransaction(database, async (sql) => {
        await sql`insert into pairs (pair) values (${number})`;
        await sql`select pg_sleep(0.01)`;
        await sql`insert into pairs (pair) values (${number})`;
      });
    },
    async insertPairIgnoringErrors(number) {
      await withTransaction(database, async (sql) => {
        await sql`insert into pairs (pair) values (${number})`.catch(() => {});
        for (let attempts = 0; attempts < 40; attempts++) await sql`select 1`.catch(() => Bun.sleep(5));
        await sql`insert into pairs (pair) values (${number})`.catch(() => {});
      });
    },
  };
  const loops = Object.entries(workers).map(async ([name, work]) => {
    while (!isStopping) {
      const number = ++lastNumber;
      runningWorkers.set(name, number);
      try {
        await work(number);
      } catch (error) {
        failureCount += 1;
        if (!isDatabaseUnavailable(error)) unexpectedErrors.push(error);
      }
      runningWorkers.delete(name);
    }
  });

  for (let round = 0; round < ROUNDS; round++) {
    await Bun.sleep(ROUND_MS);
    await adminDatabase`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${currentDatabase?.name ?? ""}`;
  }
  isStopping = true;
  await Promise.race([Promise.all(loops), Bun.sleep(5_000)]);

  expect([...runningWorkers.keys()]).toEqual([]);
  expect(unexpectedErrors).toEqual([]);
  expect(unexpectedResults).toEqual([]);
  expect(failureCount).toBeGreaterThan(ROUNDS);
  const incompletePairs = await database`select pair from pairs group by pair having count(*) <> 2`;
  expect([...incompletePairs]).toEqual([]);
  const [row] = await database<{ one: number }[]>`select 1 as one`;
  expect(row?.one).toBe(1);
}, 30_000);
