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

const root = join(import.meta.dir, "../..");
const open: Database[] = [];
let database: Database;
let target: Awaited<ReturnType<typeof createTestDatabase>>["target"];

beforeAll(async () => {
  ({ database, target } = await createTestDatabase());
  open.push(database);
});
afterAll(() => Promise.all(open.map((one) => one.end({ timeout: 1 }))));

/** A database with only the contents of `sources`. */
async function createEmpty(): Promise<Database> {
  const made = await createTestDatabase();
  open.push(made.database);
  await made.database`drop schema public cascade`;
  await made.database`create schema public`;
  return made.database;
}

const file = (name: string, text: string) => addChecksum({ name, text });
const run = (sql: Database, sources: SqlSources) => migrate(sql, silentLog, { sources });
const base: SqlSources = {
  migrations: [file("0001_things.sql", "create table things (id int, name text)")],
  functions: [
    file("name_of.sql", "create or replace function name_of() returns text language sql as $$ select 'old' $$"),
  ],
  functionsRevision: 1,
};
const nameOf = async (sql: Database) => (await sql<{ name: string }[]>`select name_of() as name`)[0]?.name;

test("committed migrations never change: a change needs a new migration, with its own line in SHA256SUMS", () => {
  const sums = parseSums(readFileSync(join(root, "sql/migrations/SHA256SUMS"), "utf8"));
  const files = readSqlFiles("migrations").map(addChecksum);
  expect(files.length).toBeGreaterThan(3);
  expect(Object.fromEntries(files.map(({ name, checksum }) => [name, checksum]))).toEqual(Object.fromEntries(sums));
});

test("a changed function increases the revision; `make sql` does that", () => {
  const functions = readSqlFiles("functions");
  expect(readFileSync(join(root, "sql/functions/REVISION"), "utf8")).toBe(
    formatRevision(bundledSql.functionsRevision, hashFiles(functions)),
  );
});

test("the executable contains the SQL of the folders, and the database has a row for each migration", async () => {
  expect(bundledSql.migrations).toEqual(readSqlFiles("migrations").map(addChecksum));
  expect(bundledSql.functions).toEqual(readSqlFiles("functions").map(addChecksum));
  const rows = await database<
    { name: string; checksum: string }[]
  >`select name, checksum from migrations order by name`;
  expect([...rows]).toEqual(bundledSql.migrations.map(({ name, checksum }) => ({ name, checksum })));
  expect(await run(database, bundledSql)).toEqual([]);
  expect((await listMigrations(database)).map(({ state }) => state)).toEqual(
    bundledSql.migrations.map(() => "applied"),
  );
});

test("no function is overloaded: with changed arguments it gets a new name, and the old one stays for a release", async () => {
  const rows = await database`
    select proname from pg_proc where pronamespace = 'public'::regnamespace group by 1 having count(*) > 1`;
  expect([...rows]).toEqual([]);
});

test("the last migration of a release stays the last, so that functions are applied in its transaction", () => {
  expect(bundledSql.migrations.at(-1)?.name).toBe("0015_counts.sql");
});

test("a migration inserted before others of its release is applied even if those are already applied", async () => {
  const sql = await createEmpty();
  const last = file("0003_last.sql", "create table last_ones (id int)");
  await run(sql, { ...base, migrations: [...base.migrations, last] });
  const inserted = file("0002_between.sql", "alter table things add column size int");
  const sizeOf = file(
    "name_of.sql",
    "create or replace function name_of() returns text language sql as $$ select max(size)::text from things $$",
  );
  const sources = { migrations: [...base.migrations, inserted, last], functions: [sizeOf], functionsRevision: 2 };
  expect(await run(sql, sources)).toEqual(["0002_between.sql"]);
  await sql`insert into things (id, size) values (1, 7)`;
  expect(await nameOf(sql)).toBe("7");
  expect(await run(sql, sources)).toEqual([]);
});

describe("functions", () => {
  test("are applied again when they change, and after every migration", async () => {
    const sql = await createEmpty();
    expect(await run(sql, base)).toEqual(["0001_things.sql"]);
    expect(await nameOf(sql)).toBe("old");
    const changed = file("name_of.sql", base.functions[0]?.text.replace("old", "new") ?? "");
    await run(sql, { ...base, functions: [changed] });
    expect(await nameOf(sql)).toBe("new");
    // Unchanged functions aren't applied again.
    await sql`create or replace function name_of() returns text language sql as $$ select 'by hand' $$`;
    await run(sql, { ...base, functions: [changed] });
    expect(await nameOf(sql)).toBe("by hand");
    const dropping = file("0002_drop.sql", "drop function name_of()");
    await run(sql, { ...base, migrations: [...base.migrations, dropping], functions: [changed] });
    expect(await nameOf(sql)).toBe("new");
  });

  test("may refer to each other in any order", async () => {
    const sql = await createEmpty();
    const first = file("a.sql", "create or replace function a() returns int language sql as 'select b()'");
    const second = file("b.sql", "create or replace function b() returns int language sql as 'select 7'");
    await run(sql, { ...base, functions: [first, second] });
    expect(await sql`select a()`).toMatchObject([{ a: 7 }]);
  });

  test("of a newer version are left unchanged by an older one, which still starts", async () => {
    const sql = await createEmpty();
    await run(sql, base);
    const text = base.functions[0]?.text ?? "";
    await run(sql, { ...base, functions: [file("name_of.sql", text.replace("old", "newer"))], functionsRevision: 2 });
    expect(await run(sql, base)).toEqual([]);
    expect(await nameOf(sql)).toBe("newer");
    await run(sql, { ...base, functions: [file("name_of.sql", text.replace("old", "newest"))], functionsRevision: 3 });
    expect(await nameOf(sql)).toBe("newest");
  });

  test("wait for a locked table in short attempts that don't block others for long", async () => {
    const sql = await createEmpty();
    await run(sql, base);
    const trigger = `${base.functions[0]?.text};
      create or replace function do_nothing() returns trigger language plpgsql as 'begin return null; end';
      create or replace trigger things_none after insert on things for each row execute function do_nothing()`;
    let waited = 0;
    const applied = await sql.begin(async (tx) => {
      await tx`insert into things values (1, 'x')`;
      const running = run(sql, { ...base, functions: [file("name_of.sql", trigger)] });
      await Bun.sleep(1_500);
      // It has paused in between: a queued reader was let through.
      const startedAt = performance.now();
      await sql`insert into things values (2, 'y')`;
      waited = performance.now() - startedAt;
      return () => running;
    });
    expect(await applied()).toEqual([]);
    expect(waited).toBeLessThan(1_500);
    expect(await sql`select 1 from pg_trigger where tgname = 'things_none'`).toHaveLength(1);
  }, 20_000);

  test("that fail leave the earlier ones unchanged", async () => {
    const sql = await createEmpty();
    await run(sql, base);
    const changed = file("name_of.sql", base.functions[0]?.text.replace("old", "new") ?? "");
    const broken = file("z.sql", "create or replace function z() returns nonsense language sql as ''");
    expect(run(sql, { ...base, functions: [changed, broken] })).rejects.toThrow("nonsense");
    await run(sql, { ...base, functions: [changed, broken] }).catch(() => {});
    expect(await nameOf(sql)).toBe("old");
  });
});

describe("a database of a newer version", () => {
  test("is rejected with the migration's name and the version to use, and its functions stay", async () => {
    const sql = await createEmpty();
    await run(sql, base);
    await sql`insert into migrations (name, checksum, version) values ('0002_later.sql', 'x', '9.8.7')`;
    const older = { ...base, functions: [file("name_of.sql", base.functions[0]?.text.replace("old", "older") ?? "")] };
    const error = await run(sql, older).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(MigrationError);
    expect(String(error)).toMatch(/0002_later\.sql.*9\.8\.7/);
    expect(await nameOf(sql)).toBe("old");
    expect((await listMigrations(sql, older)).map(({ name, state }) => [name, state])).toEqual([
      ["0001_things.sql", "applied"],
      ["0002_later.sql", "unknown"],
    ]);
  });

  test("is rejected even if the newer version migrated while this one waited for the lock", async () => {
    const sql = await createEmpty();
    const sources = { ...base, migrations: [...base.migrations, file("0002_mine.sql", "create table mine ()")] };
    await run(sql, base);
    let error: unknown;
    let waiting: Promise<void> | undefined;
    await withMigrationLock(sql, async (locked) => {
      waiting = run(sql, sources).then(
        () => {},
        (thrown: unknown) => {
          error = thrown;
        },
      );
      await Bun.sleep(100);
      await locked`insert into migrations (name, checksum) values ('0002_theirs.sql', 'x')`;
    });
    await waiting;
    expect(String(error)).toContain("0002_theirs.sql");
    expect(await sql`select to_regclass('mine') as mine`).toMatchObject([{ mine: null }]);
  });

  test("isn't waited for when the process is stopped", async () => {
    const sql = await createEmpty();
    await run(sql, base);
    const sources = { ...base, migrations: [...base.migrations, file("0002_mine.sql", "create table mine ()")] };
    const stopping = new AbortController();
    let error: unknown;
    await withMigrationLock(sql, async () => {
      const waiting = migrate(sql, silentLog, { sources, signal: stopping.signal }).catch((thrown: unknown) => {
        error = thrown;
      });
      await Bun.sleep(150);
      stopping.abort(new Error("stop requested"));
      await waiting;
    });
    expect(String(error)).toContain("stop requested");
  });

  test("with a changed migration is rejected", async () => {
    const sql = await createEmpty();
    await run(sql, base);
    const changed = { ...base, migrations: [file("0001_things.sql", "create table things (id bigint)")] };
    expect(run(sql, changed)).rejects.toThrow("0001_things.sql differs from the migration");
  });
});

describe("a migration outside a transaction", () => {
  const indexed = (text: string): SqlSources => ({
    ...base,
    migrations: [...base.migrations, file("0002_index.sql", `-- parley: no transaction\n${text}`)],
  });
  const concurrent = indexed(
    "create unique index concurrently if not exists things_id on things (id);\n" +
      "-- A second one.\ncreate index concurrently if not exists things_name on things (name);\n",
  );
  const findIndexes = async (sql: Database) => [
    ...(await sql<{ name: string; valid: boolean }[]>`
      select indexrelid::regclass::text as name, indisvalid as valid from pg_index
      where indrelid = 'things'::regclass order by 1`),
  ];
  const both = [
    { name: "things_id", valid: true },
    { name: "things_name", valid: true },
  ];

  test("builds indexes concurrently, also when several instances start together", async () => {
    const sql = await createEmpty();
    await run(sql, base);
    await sql`insert into things select n, 'x' from generate_series(1, 20000) n`;
    const applied = await Promise.all(Array.from({ length: 4 }, () => run(sql, concurrent)));
    expect(applied.flat()).toEqual(["0002_index.sql"]);
    expect(await findIndexes(sql)).toEqual(both);
  }, 20_000);

  test("that was interrupted is repeated: an invalid index is dropped and rebuilt", async () => {
    const sql = await createEmpty();
    await run(sql, base);
    await sql`insert into things values (1, 'x'), (1, 'y')`;
    expect(run(sql, concurrent)).rejects.toThrow("things_id");
    await run(sql, concurrent).catch(() => {});
    expect(await findIndexes(sql)).toEqual([{ name: "things_id", valid: false }]);
    await sql`delete from things where name = 'y'`;
    expect(await run(sql, concurrent)).toEqual(["0002_index.sql"]);
    expect(await findIndexes(sql)).toEqual(both);
    const inside = indexed("create function f() returns int language sql as $$ select 1 $$;");
    expect(run(sql, inside)).rejects.toBeInstanceOf(MigrationError);
    const [row] = await sql<{ timeout: string }[]>`select current_setting('statement_timeout') as timeout`;
    expect(row?.timeout).toBe("30s");
  }, 20_000);
});

test("instances that start together on an empty database apply everything once", async () => {
  const empty = await createEmpty();
  const [row] = await empty<{ name: string }[]>`select current_database() as name`;
  const pools = Array.from({ length: 4 }, () =>
    openDatabase({ target: { ...target, database: row?.name ?? "" }, poolSize: 2 }),
  );
  open.push(...pools);
  const applied = await Promise.all(pools.map((pool) => run(pool, bundledSql)));
  expect(applied.flat().sort()).toEqual(bundledSql.migrations.map(({ name }) => name));
}, 20_000);
