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
let made: Awaited<ReturnType<typeof createTestDatabase>>;
beforeAll(async () => {
  made = await createTestDatabase();
  await made.database`create table counters (id int primary key, value int not null)`;
  await made.database`insert into counters values (1, 0), (2, 0)`;
  await made.database.unsafe(`alter database ${made.name} set default_transaction_isolation = 'serializable'`);
  // As behind a pooler: none of Parley's settings reach the server.
  database = openDatabase({ target: made.target, poolSize: 5, session: {} });
});
afterAll(async () => {
  await database.end({ timeout: 1 });
  await made.database.end({ timeout: 1 });
});

const createCollision = (code: string) => Object.assign(new postgres.PostgresError("collision"), { code });

async function runAll(work: () => Promise<unknown>): Promise<void> {
  await Promise.all(
    Array.from({ length: WORKERS }, async () => {
      for (let n = 0; n < ROUNDS; n += 1) await work();
    }),
  );
}

test("the database's default is serializable, and single statements fail with it", async () => {
  const [row] = await database`show transaction_isolation`;
  expect(row?.transaction_isolation).toBe("serializable");
});

test("transactions are read committed, whatever the default", async () => {
  const [row] = await withTransaction(database, (sql) => sql`show transaction_isolation`);
  expect(row?.transaction_isolation).toBe("read committed");
});

test("transactions of every pool are read committed, also without `withTransaction`", async () => {
  const side = createSidePool(database, 1);
  for (const pool of [database, side.open()]) {
    const [row] = await pool.begin((sql) => sql`show transaction_isolation`);
    expect(row?.transaction_isolation).toBe("read committed");
  }
  await side.close();
});

test("concurrent statements and transactions on the same row all succeed", async () => {
  await runAll(() => withTransaction(database, (sql) => sql`update counters set value = value + 1 where id = 1`));
  await runAll(() => withStatement(database, (sql) => sql`update counters set value = value + 1 where id = 1`));
  const [row] = await database`select value from counters where id = 1`;
  expect(row?.value).toBe(2 * WORKERS * ROUNDS);
});

test.each(["40001", "40P01"])("%s is retried a bounded number of times, and other errors are not", async (code) => {
  let attempts = 0;
  const collide = async (failures: number, error: Error) => {
    attempts = 0;
    return await retryCollisions(async () => {
      attempts += 1;
      if (attempts <= failures) throw error;
      return "done";
    });
  };
  expect(await collide(4, createCollision(code))).toBe("done");
  expect(attempts).toBe(5);
  const last = createCollision(code);
  expect(await collide(9, last).catch((error) => error)).toBe(last);
  expect(attempts).toBe(5);
  expect(findTemporaryProblem(last)?.code).toBe("overloaded");
  expect(await collide(1, createCollision("23505")).catch((error) => error.code)).toBe("23505");
  expect(attempts).toBe(1);
});
