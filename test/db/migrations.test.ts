import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { formatRevision, hashFiles, parseSums } from "../../scripts/sql-revision.ts";
import { type Database, openDatabase } from "../../src/db/client.ts";
import {
  addChecksum,
  bundledSql,
  listMigrations,
  MigrationError,
  migrate,
  type SqlSources,
} from "../../src/db/migrate.ts";
import { withMigrationLock } from "../../src/db/migration-lock.ts";
import { readSqlFiles } from "../../src/db/sql-files.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";

const repositoryDir = join(import.meta.dir, "../..");
const openedDatabases: Database[] = [];
let database: Database;
let target: Awaited<ReturnType<typeof createTestDatabase>>["target"];

beforeAll(async () => {
  ({ database, target } = await createTestDatabase());
  openedDatabases.push(database);
});
afterAll(() => Promise.all(openedDatabases.map((database) => database.end({ timeout: 1 }))));

/** Creates a database with an empty schema. */
async function createEmptyDatabase(): Promise<Database> {
  const testDatabase = await createTestDatabase();
  openedDatabases.push(testDatabase.database);
  await testDatabase.database`drop schema public cascade`;
  await testDatabase.database`create schema public`;
  return testDatabase.database;
}

const createFile = (name: string, text: string) => addChecksum({ name, text });
const runMigrations = (sql: Database, sources: SqlSources) => migrate(sql, silentLog, { sources });
const baseSources: SqlSources = {
  migrations: [createFile("0001_things.sql", "create table things (id int, name text)")],
  functions: [
    createFile("name_of.sql", "create or replace function name_of() returns text language sql as $$ select 'old' $$"),
  ],
  functionsRevision: 1,
};
const callNameOf = async (sql: Database) => (await sql<{ name: string }[]>`select name_of() as name`)[0]?.name;

test("migrations match SHA256SUMS, because a committed migration never changes", () => {
  const sums = parseSums(readFileSync(join(repositoryDir, "sql/migrations/SHA256SUMS"), "utf8"));
  const files = readSqlFiles("migrations").map(addChecksum);
  expect(files.length).toBeGreaterThan(3);
  expect(Object.fromEntries(files.map(({ name, checksum }) => [name, checksum]))).toEqual(Object.fromEntries(sums));
});

test("REVISION matches the functions (`make sql` increases it after a change)", () => {
  const functions = readSqlFiles("functions");
  expect(readFileSync(join(repositoryDir, "sql/functions/REVISION"), "utf8")).toBe(
    formatRevision(bundledSql.functionsRevision, hashFiles(functions)),
  );
});

test("the bundled SQL matches the files, and the database records every migration", async () => {
  expect(bundledSql.migrations).toEqual(readSqlFiles("migrations").map(addChecksum));
  expect(bundledSql.functions).toEqual(readSqlFiles("functions").map(addChecksum));
  const rows = await database<
    { name: string; checksum: string }[]
  >`select name, checksum from migrations order by name`;
  expect([...rows]).toEqual(bundledSql.migrations.map(({ name, checksum }) => ({ name, checksum })));
  expect(await runMigrations(database, bundledSql)).toEqual([]);
  expect((await listMigrations(database)).map(({ state }) => state)).toEqual(
    bundledSql.migrations.map(() => "applied"),
  );
});

test("no function is overloaded, because changing a function's arguments requires a new name", async () => {
  const rows = await database`
    select proname from pg_proc where pronamespace = 'public'::regnamespace group by 1 having count(*) > 1`;
  expect([...rows]).toEqual([]);
});

test("0015_counts.sql is the last migration, because the functions must be applied in its transaction", () => {
  expect(bundledSql.migrations.at(-1)?.name).toBe("0015_counts.sql");
});

test("a migration is applied even if later migrations were applied before it was added", async () => {
  const sql = await createEmptyDatabase();
  const lastMigration = createFile("0003_last.sql", "create table last_ones (id int)");
  await runMigrations(sql, { ...baseSources, migrations: [...baseSources.migrations, lastMigration] });
  const insertedMigration = createFile("0002_between.sql", "alter table things add column size int");
  const sizeFunction = createFile(
    "name_of.sql",
    "create or replace function name_of() returns text language sql as $$ select max(size)::text from things $$",
  );
  const sources = {
    migrations: [...baseSources.migrations, insertedMigration, lastMigration],
    functions: [sizeFunction],
    functionsRevision: 2,
  };
  expect(await runMigrations(sql, sources)).toEqual(["0002_between.sql"]);
  await sql`insert into things (id, size) values (1, 7)`;
  expect(await callNameOf(sql)).toBe("7");
  expect(await runMigrations(sql, sources)).toEqual([]);
});

describe("functions", () => {
  test("are applied again when they change, and after every migration", async () => {
    const sql = await createEmptyDatabase();
    expect(await runMigrations(sql, baseSources)).toEqual(["0001_things.sql"]);
    expect(await callNameOf(sql)).toBe("old");
    const changedFunction = createFile("name_of.sql", baseSources.functions[0]?.text.replace("old", "new") ?? "");
    await runMigrations(sql, { ...baseSources, functions: [changedFunction] });
    expect(await callNameOf(sql)).toBe("new");
    // Unchanged functions aren't applied again.
    await sql`create or replace function name_of() returns text language sql as $$ select 'by hand' $$`;
    await runMigrations(sql, { ...baseSources, functions: [changedFunction] });
    expect(await callNameOf(sql)).toBe("by hand");
    const dropMigration = createFile("0002_drop.sql", "drop function name_of()");
    await runMigrations(sql, {
      ...baseSources,
      migrations: [...baseSources.migrations, dropMigration],
      functions: [changedFunction],
    });
    expect(await callNameOf(sql)).toBe("new");
  });

  test("can refer to each other in any order", async () => {
    const sql = await createEmptyDatabase();
    const firstFunction = createFile(
      "a.sql",
      "create or replace function a() returns int language sql as 'select b()'",
    );
    const secondFunction = createFile("b.sql", "create or replace function b() returns int language sql as 'select 7'");
    await runMigrations(sql, { ...baseSources, functions: [firstFunction, secondFunction] });
    expect(await sql`select a()`).toMatchObject([{ a: 7 }]);
  });

  test("of a newer version aren't replaced by an older version, which still starts", async () => {
    const sql = await createEmptyDatabase();
    await runMigrations(sql, baseSources);
    const text = baseSources.functions[0]?.text ?? "";
    await runMigrations(sql, {
      ...baseSources,
      functions: [createFile("name_of.sql", text.replace("old", "newer"))],
      functionsRevision: 2,
    });
    expect(await runMigrations(sql, baseSources)).toEqual([]);
    expect(await callNameOf(sql)).toBe("newer");
    await runMigrations(sql, {
      ...baseSources,
      functions: [createFile("name_of.sql", text.replace("old", "newest"))],
      functionsRevision: 3,
    });
    expect(await callNameOf(sql)).toBe("newest");
  });

  test("are applied in short attempts while a table is locked, without blocking other queries for long", async () => {
    const sql = await createEmptyDatabase();
    await runMigrations(sql, baseSources);
    const trigger = `${baseSources.functions[0]?.text};
      create or replace function do_nothing() returns trigger language plpgsql as 'begin return null; end';
      create or replace trigger things_none after insert on things for each row execute function do_nothing()`;
    let waitedMs = 0;
    const getAppliedNames = await sql.begin(async (tx) => {
      await tx`insert into things values (1, 'x')`;
      const migrationPromise = runMigrations(sql, { ...baseSources, functions: [createFile("name_of.sql", trigger)] });
      await Bun.sleep(1_500);
      // This insert can run between two attempts.
      const startedAtMs = performance.now();
      await sql`insert into things values (2, 'y')`;
      waitedMs = performance.now() - startedAtMs;
      return () => migrationPromise;
    });
    expect(await getAppliedNames()).toEqual([]);
    expect(waitedMs).toBeLessThan(1_500);
    expect(await sql`select 1 from pg_trigger where tgname = 'things_none'`).toHaveLength(1);
  }, 20_000);

  test("all keep their previous definitions if one of them can't be applied", async () => {
    const sql = await createEmptyDatabase();
    await runMigrations(sql, baseSources);
    const changedFunction = createFile("name_of.sql", baseSources.functions[0]?.text.replace("old", "new") ?? "");
    const brokenFunction = createFile("z.sql", "create or replace function z() returns nonsense language sql as ''");
    expect(runMigrations(sql, { ...baseSources, functions: [changedFunction, brokenFunction] })).rejects.toThrow(
      "nonsense",
    );
    await runMigrations(sql, { ...baseSources, functions: [changedFunction, brokenFunction] }).catch(() => {});
    expect(await callNameOf(sql)).toBe("old");
  });
});

describe("migrate", () => {
  test("rejects a database that a newer version has migrated, mentions the migration and that version, and keeps the functions", async () => {
    const sql = await createEmptyDatabase();
    await runMigrations(sql, baseSources);
    await sql`insert into migrations (name, checksum, version) values ('0002_later.sql', 'x', '9.8.7')`;
    const olderSources = {
      ...baseSources,
      functions: [createFile("name_of.sql", baseSources.functions[0]?.text.replace("old", "older") ?? "")],
    };
    const error = await runMigrations(sql, olderSources).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(MigrationError);
    expect(String(error)).toMatch(/0002_later\.sql.*9\.8\.7/);
    expect(await callNameOf(sql)).toBe("old");
    expect((await listMigrations(sql, olderSources)).map(({ name, state }) => [name, state])).toEqual([
      ["0001_things.sql", "applied"],
      ["0002_later.sql", "unknown"],
    ]);
  });

  test("rejects a database that a newer version migrated while this one waited for the lock", async () => {
    const sql = await createEmptyDatabase();
    const sources = {
      ...baseSources,
      migrations: [...baseSources.migrations, createFile("0002_mine.sql", "create table mine ()")],
    };
    await runMigrations(sql, baseSources);
    let error: unknown;
    let waitingForLock: Promise<void> | undefined;
    await withMigrationLock(sql, async (locked) => {
      waitingForLock = runMigrations(sql, sources).then(
        () => {},
        (thrown: unknown) => {
          error = thrown;
        },
      );
      await Bun.sleep(100);
      await locked`insert into migrations (name, checksum) values ('0002_theirs.sql', 'x')`;
    });
    await waitingForLock;
    expect(String(error)).toContain("0002_theirs.sql");
    expect(await sql`select to_regclass('mine') as mine`).toMatchObject([{ mine: null }]);
  });

  test("stops waiting for the lock when it is aborted", async () => {
    const sql = await createEmptyDatabase();
    await runMigrations(sql, baseSources);
    const sources = {
      ...baseSources,
      migrations: [...baseSources.migrations, createFile("0002_mine.sql", "create table mine ()")],
    };
    const controller = new AbortController();
    let error: unknown;
    await withMigrationLock(sql, async () => {
      const waitingForLock = migrate(sql, silentLog, { sources, signal: controller.signal }).catch(
        (thrown: unknown) => {
          error = thrown;
        },
      );
      await Bun.sleep(150);
      controller.abort(new Error("stop requested"));
      await waitingForLock;
    });
    expect(String(error)).toContain("stop requested");
  });

  test("rejects a changed migration", async () => {
    const sql = await createEmptyDatabase();
    await runMigrations(sql, baseSources);
    const changedSources = {
      ...baseSources,
      migrations: [createFile("0001_things.sql", "create table things (id bigint)")],
    };
    expect(runMigrations(sql, changedSources)).rejects.toThrow("0001_things.sql differs from the migration");
  });
});

describe("a migration outside a transaction", () => {
  const createSources = (text: string): SqlSources => ({
    ...baseSources,
    migrations: [...baseSources.migrations, createFile("0002_index.sql", `-- parley: no transaction\n${text}`)],
  });
  const indexSources = createSources(
    "create unique index concurrently if not exists things_id on things (id);\n" +
      "-- The second index.\ncreate index concurrently if not exists things_name on things (name);\n",
  );
  const findIndexes = async (sql: Database) => [
    ...(await sql<{ name: string; valid: boolean }[]>`
      select indexrelid::regclass::text as name, indisvalid as valid from pg_index
      where indrelid = 'things'::regclass order by 1`),
  ];
  const validIndexes = [
    { name: "things_id", valid: true },
    { name: "things_name", valid: true },
  ];

  test("builds indexes concurrently, even if several instances start at the same time", async () => {
    const sql = await createEmptyDatabase();
    await runMigrations(sql, baseSources);
    await sql`insert into things select n, 'x' from generate_series(1, 20000) n`;
    const appliedNames = await Promise.all(Array.from({ length: 4 }, () => runMigrations(sql, indexSources)));
    expect(appliedNames.flat()).toEqual(["0002_index.sql"]);
    expect(await findIndexes(sql)).toEqual(validIndexes);
  }, 20_000);

  test("drops and rebuilds an invalid index when it is repeated after an interruption", async () => {
    const sql = await createEmptyDatabase();
    await runMigrations(sql, baseSources);
    await sql`insert into things values (1, 'x'), (1, 'y')`;
    expect(runMigrations(sql, indexSources)).rejects.toThrow("things_id");
    await runMigrations(sql, indexSources).catch(() => {});
    expect(await findIndexes(sql)).toEqual([{ name: "things_id", valid: false }]);
    await sql`delete from things where name = 'y'`;
    expect(await runMigrations(sql, indexSources)).toEqual(["0002_index.sql"]);
    expect(await findIndexes(sql)).toEqual(validIndexes);
    const sourcesWithoutIndex = createSources("create function f() returns int language sql as $$ select 1 $$;");
    expect(runMigrations(sql, sourcesWithoutIndex)).rejects.toBeInstanceOf(MigrationError);
    const [row] = await sql<{ timeout: string }[]>`select current_setting('statement_timeout') as timeout`;
    expect(row?.timeout).toBe("30s");
  }, 20_000);
});

test("instances that start at the same time on an empty database apply each migration once", async () => {
  const emptyDatabase = await createEmptyDatabase();
  const [row] = await emptyDatabase<{ name: string }[]>`select current_database() as name`;
  const pools = Array.from({ length: 4 }, () =>
    openDatabase({ target: { ...target, database: row?.name ?? "" }, poolSize: 2 }),
  );
  openedDatabases.push(...pools);
  const appliedNames = await Promise.all(pools.map((pool) => runMigrations(pool, bundledSql)));
  expect(appliedNames.flat().sort()).toEqual(bundledSql.migrations.map(({ name }) => name));
}, 20_000);
