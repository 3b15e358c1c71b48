import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Database, isDatabaseUnavailable, withTransaction } from "../../src/db/client.ts";
import { createTestDatabase } from "../support/postgres.ts";

// What the driver (with patches/postgres) guarantees when connections are lost during work. Without the patch, the
// process crashes, queries hang, results go to the wrong query, and statements of a dead transaction run outside it.
const ROUNDS = 12;
const ROUND_MS = 120;

let database: Database;
let killer: Database;

beforeAll(async () => {
  const created = await createTestDatabase(6);
  database = created.database;
  killer = (await createTestDatabase(1)).database;
  await database`create table pairs (pair int not null)`;
});

afterAll(async () => {
  await database.end({ timeout: 1 });
  await killer.end({ timeout: 1 });
});

test("lost connections lose no query, mix up no results and split no transaction", async () => {
  const [own] = await database<{ name: string }[]>`select current_database() as name`;
  const foreignErrors: unknown[] = [];
  const wrongAnswers: unknown[] = [];
  const running = new Map<string, number>();
  let isOver = false;
  let next = 0;
  let lost = 0;

  const expectEqual = (received: unknown, expected: unknown) => {
    if (received !== expected) wrongAnswers.push({ received, expected });
  };
  const workers: Record<string, (number: number) => Promise<void>> = {
    async prepared(number) {
      const [row] = await database<{ number: number }[]>`select ${number}::int as number`;
      expectEqual(row?.number, number);
    },
    async array(number) {
      const [row] = await database<{ sum: number }[]>`
        select sum(value)::int as sum from unnest(${[number, 1]}::int[]) as value`;
      expectEqual(row?.sum, number + 1);
    },
    async simple(number) {
      const rows = await database.unsafe(`select ${number} as number`);
      expectEqual(rows[0]?.number, number);
    },
    async slow(number) {
      const [row] = await database<{ number: number }[]>`select ${number}::int as number, pg_sleep(0.02)`;
      expectEqual(row?.number, number);
    },
    async pairWithPause(number) {
      await withTransaction(database, async (sql) => {
        await sql`insert into pairs (pair) values (${number})`;
        await Bun.sleep(3);
        await sql`insert into pairs (pair) values (${number})`;
      });
    },
    async pairInServer(number) {
      await withTransaction(database, async (sql) => {
        await sql`insert into pairs (pair) values (${number})`;
        await sql`select pg_sleep(0.01)`;
        await sql`insert into pairs (pair) values (${number})`;
      });
    },
    async stubbornPair(number) {
      await withTransaction(database, async (sql) => {
        await sql`insert into pairs (pair) values (${number})`.catch(() => {});
        for (let attempts = 0; attempts < 40; attempts++) await sql`select 1`.catch(() => Bun.sleep(5));
        await sql`insert into pairs (pair) values (${number})`.catch(() => {});
      });
    },
  };
  const loops = Object.entries(workers).map(async ([name, work]) => {
    while (!isOver) {
      const number = ++next;
      running.set(name, number);
      try {
        await work(number);
      } catch (error) {
        lost += 1;
        if (!isDatabaseUnavailable(error)) foreignErrors.push(error);
      }
      running.delete(name);
    }
  });

  for (let round = 0; round < ROUNDS; round++) {
    await Bun.sleep(ROUND_MS);
    await killer`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${own?.name ?? ""}`;
  }
  isOver = true;
  await Promise.race([Promise.all(loops), Bun.sleep(5_000)]);

  expect([...running.keys()]).toEqual([]);
  expect(foreignErrors).toEqual([]);
  expect(wrongAnswers).toEqual([]);
  expect(lost).toBeGreaterThan(ROUNDS);
  const halves = await database`select pair from pairs group by pair having count(*) <> 2`;
  expect([...halves]).toEqual([]);
  const [answer] = await database<{ one: number }[]>`select 1 as one`;
  expect(answer?.one).toBe(1);
}, 30_000);
