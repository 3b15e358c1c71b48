import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { addChecksum, MigrationError, migrate } from "../../src/db/migrate.ts";
import { prepareSession } from "../../src/db/session-check.ts";
import { silentLog } from "../support/log.ts";
import { startPgBouncer, type TestPgBouncer } from "../support/pgbouncer.ts";
import { createTestDatabase } from "../support/postgres.ts";

let testDatabase: Awaited<ReturnType<typeof createTestDatabase>>;
let pooler: TestPgBouncer;
let database: Database;
beforeAll(async () => {
  testDatabase = await createTestDatabase();
  await testDatabase.database`drop schema public cascade`;
  await testDatabase.database`create schema public`;
  await testDatabase.database.unsafe(`alter database ${testDatabase.name} set statement_timeout = '300ms'`);
  await testDatabase.database.end();
  pooler = await startPgBouncer({
    socketDirectory: testDatabase.target.socketDirectory,
    mode: "transaction",
    poolSize: 2,
  });
  database = openDatabase({ target: { url: pooler.url(testDatabase.name) }, poolSize: 2 });
  await prepareSession(database, silentLog);
});
afterAll(async () => {
  await database.end({ timeout: 1 });
  await pooler.stop();
});
afterEach(async () => {
  const settings = await database<{ name: string }[]>`
    select name from pg_settings where source = 'session' and name in ('statement_timeout', 'lock_timeout')`;
  expect(settings.map(({ name }) => name)).toEqual([]);
});

const runMigrations = (...statements: string[]) =>
  migrate(database, silentLog, {
    sources: {
      migrations: [
        addChecksum({ name: "0001_things.sql", text: "create table things (id int);\nselect pg_sleep(0.4)" }),
        addChecksum({ name: "0002_outside.sql", text: ["-- parley: no transaction", ...statements].join("\n") }),
      ],
      functions: [],
      functionsRevision: 1,
    },
  });

const CREATE_INDEX = "create index concurrently if not exists things_by_id on things (id);";

test("a statement outside a transaction that exceeds the role's statement_timeout fails with a suggested fix", async () => {
  const error = await runMigrations("select pg_sleep(0.4);", CREATE_INDEX).catch((error) => error);
  expect(error).toBeInstanceOf(MigrationError);
  expect(error.message).toContain("0002_outside.sql takes longer than the role's statement_timeout");
  expect(error.message).toContain("run `parley migrate` once with a DATABASE_URL that connects directly to Postgres");
});

test("faster statements succeed, and slow statements inside a transaction are not affected", async () => {
  expect(await runMigrations(CREATE_INDEX)).toEqual(["0002_outside.sql"]);
  const [index] = await database`select indisvalid from pg_index where indexrelid = to_regclass('things_by_id')`;
  expect(index?.indisvalid).toBe(true);
  expect(await runMigrations(CREATE_INDEX)).toEqual([]);
});
