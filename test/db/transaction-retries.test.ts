import { afterAll, beforeAll, expect, test } from "bun:test";
import postgres from "postgres";
import {
  createSidePool,
  type Database,
  findTemporaryProblem,
  openDatabase,
  withStatement,
  withTransaction,
} from "../../src/db/client.ts";
import { retryCollisions } from "../../src/db/retry-collisions.ts";
import { createTestDatabase } from "../support/postgres.ts";

const WORKERS = 4;
const ROUNDS = 25;

let database: Database;
let testDatabase: Awaited<ReturnType<typeof createTestDatabase>>;
beforeAll(async () => {
  testDatabase = await createTestDatabase();
  await testDatabase.database`create table counters (id int primary key, value int not null)`;
  await testDatabase.database`insert into counters values (1, 0), (2, 0)`;
  await testDatabase.database.unsafe(
    `alter database ${testDatabase.name} set default_transaction_isolation = 'serializable'`,
  );
  // Parley's settings aren't sent to the server, as if it were behind a pooler.
  database = openDatabase({ target: testDatabase.target, poolSize: 5, session: {} });
});
afterAll(async () => {
  await database.end({ timeout: 1 });
  await testDatabase.database.end({ timeout: 1 });
});

const createCollision = (code: string) => Object.assign(new postgres.PostgresError("collision"), { code });

async function runConcurrently(work: () => Promise<unknown>): Promise<void> {
  await Promise.all(
    Array.from({ length: WORKERS }, async () => {
      for (let n = 0; n < ROUNDS; n += 1) await work();
    }),
  );
}

test("a single statement uses the database's default isolation level, which is serializable", async () => {
  const [row] = await database`show transaction_isolation`;
  expect(row?.transaction_isolation).toBe("serializable");
});

test("transactions are read committed even if the default isolation level is different", async () => {
  const [row] = await withTransaction(database, (sql) => sql`show transaction_isolation`);
  expect(row?.transaction_isolation).toBe("read committed");
});

test("transactions of every pool are read committed, even without `withTransaction`", async () => {
  const sidePool = createSidePool(database, 1);
  for (const pool of [database, sidePool.open()]) {
    const [row] = await pool.begin((sql) => sql`show transaction_isolation`);
    expect(row?.transaction_isolation).toBe("read committed");
  }
  await sidePool.close();
});

test("concurrent transactions and statements on the same row all succeed", async () => {
  await runConcurrently(() =>
    withTransaction(database, (sql) => sql`update counters set value = value + 1 where id = 1`),
  );
  await runConcurrently(() =>
    withStatement(database, (sql) => sql`update counters set value = value + 1 where id = 1`),
  );
  const [row] = await database`select value from counters where id = 1`;
  expect(row?.value).toBe(2 * WORKERS * ROUNDS);
});

test.each(["40001", "40P01"])("error %s is retried four times, and other errors aren't retried", async (code) => {
  let attempts = 0;
  const runWithFailures = async (failures: number, error: Error) => {
    attempts = 0;
    return await retryCollisions(async () => {
      attempts += 1;
      if (attempts <= failures) throw error;
      return "done";
    });
  };
  expect(await runWithFailures(4, createCollision(code))).toBe("done");
  expect(attempts).toBe(5);
  const error = createCollision(code);
  expect(await runWithFailures(9, error).catch((error) => error)).toBe(error);
  expect(attempts).toBe(5);
  expect(findTemporaryProblem(error)?.code).toBe("overloaded");
  expect(await runWithFailures(1, createCollision("23505")).catch((error) => error.code)).toBe("23505");
  expect(attempts).toBe(1);
});
