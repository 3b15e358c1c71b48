import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { APPLICATION_ROLE, SUPERUSER } from "../../src/db/embedded/roles.ts";
import { startEmbeddedPostgres } from "../../src/db/embedded.ts";
import { migrate } from "../../src/db/migrate.ts";
import { createWorldWritableFolder } from "../support/database-process.ts";
import { silentLog } from "../support/log.ts";

setDefaultTimeout(60_000);

const skipReason = process.getuid?.() === 0 ? "" : " (skipped: the tests don't run as root)";
const CAP_DAC_OVERRIDE = 1n << 1n;
const CAP_DAC_READ_SEARCH = 1n << 2n;

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function createFolder(): string {
  const folder = createWorldWritableFolder();
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function startPostgres(dataDir: string) {
  const warnings: string[] = [];
  const warn = (_fields: unknown, text?: string) => void warnings.push(text ?? "");
  const postgres = await startEmbeddedPostgres({ dataDir, poolSize: 5, log: { ...silentLog, warn } as never });
  const openPools: Database[] = [];
  const openPool = (user = postgres.user, database = "parley") => {
    const pool = openDatabase({ target: { socketDirectory: postgres.socketDirectory, user, database }, poolSize: 2 });
    openPools.push(pool);
    return pool;
  };
  const stop = async () => {
    for (const pool of openPools.splice(0)) await pool.end({ timeout: 1 });
    await postgres.stop();
  };
  cleanups.push(stop);
  return { openPool, stop, warnings };
}

function getCapabilities(dataDir: string): Record<string, bigint> {
  const pid = readFileSync(join(dataDir, "postgres/postmaster.pid"), "utf8").split("\n")[0];
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Object.fromEntries(
    [...status.matchAll(/^Cap(Eff|Prm|Inh|Amb):\s+(\w+)$/gm)].map(([, name = "", bits]) => [name, BigInt(`0x${bits}`)]),
  );
}

describe(`the embedded Postgres of a Parley process started by root${skipReason}`, () => {
  test.skipIf(skipReason !== "")(
    "has no capabilities if its user can access the path, regardless of the umask",
    async () => {
      const folder = createFolder();
      const dataDir = join(folder, "new/nested folder/data");
      const umask = process.umask(0o077);
      cleanups.push(() => void process.umask(umask));
      const { warnings } = await startPostgres(dataDir);
      expect(getCapabilities(dataDir)).toEqual({ Inh: 0n, Prm: 0n, Eff: 0n, Amb: 0n });
      expect(warnings).toEqual([]);
      expect(statSync(dataDir).mode & 0o777).toBe(0o711);
    },
  );

  test.skipIf(skipReason !== "")(
    "has one capability if its user can't access the parent folder, and a warning mentions that folder",
    async () => {
      const folder = createFolder();
      chmodSync(folder, 0o700);
      const dataDir = join(folder, "data");
      const { warnings, openPool } = await startPostgres(dataDir);
      const { Eff } = getCapabilities(dataDir);
      expect([CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE]).toContain(Eff ?? 0n);
      expect(warnings).toHaveLength(1);
      expect(warnings[0]).toContain(`has no access to ${folder}. To avoid that, use \`chmod o+x ${folder}\``);
      expect(await openPool()`select 1 as one`).toEqual([{ one: 1 }] as never);
    },
  );
});

const listOwners = (sql: Database) => sql<{ owner: string }[]>`
  select distinct rolname as owner from (
    select relowner as owner from pg_class where relnamespace = 'public'::regnamespace
    union all select proowner from pg_proc where pronamespace = 'public'::regnamespace
    union all select typowner from pg_type where typnamespace = 'public'::regnamespace
    union all select nspowner from pg_namespace where nspname = 'other schema'
    union all select datdba from pg_database where datname = 'parley') o join pg_roles r on r.oid = o.owner`;

describe("Parley's role", () => {
  test("isn't a superuser and owns everything in its database, and no superuser stays connected", async () => {
    const { openPool } = await startPostgres(join(createFolder(), "data"));
    const database = openPool();
    await migrate(database, silentLog);
    const [role] = await database`
      select rolname, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls
      from pg_roles where rolname = current_user`;
    expect(role).toEqual({
      rolname: APPLICATION_ROLE,
      rolsuper: false,
      rolcreatedb: false,
      rolcreaterole: false,
      rolreplication: false,
      rolbypassrls: false,
    });
    expect(await listOwners(database)).toEqual([{ owner: APPLICATION_ROLE }] as never);
    await expect(database`select pg_read_file('/etc/passwd')`).rejects.toThrow("permission denied");
    await expect(database`copy (select 1) to program 'id'`).rejects.toThrow("permission denied");
    let superusers: readonly unknown[] = [];
    for (let attempts = 0; attempts < 50; attempts++) {
      superusers = await database`
        select pid from pg_stat_activity join pg_roles on rolname = usename where rolsuper`;
      if (superusers.length === 0) break;
      await Bun.sleep(20);
    }
    expect(superusers).toEqual([]);
  });

  test("becomes the owner of a database that an earlier version created as a superuser", async () => {
    const dataDir = join(createFolder(), "data");
    const firstPostgres = await startPostgres(dataDir);
    const adminDatabase = firstPostgres.openPool(SUPERUSER, "postgres");
    await adminDatabase`drop database parley`;
    await adminDatabase.unsafe(`drop role ${APPLICATION_ROLE}`);
    await adminDatabase`create database parley`;
    const superuserDatabase = firstPostgres.openPool(SUPERUSER);
    await migrate(superuserDatabase, silentLog);
    await superuserDatabase.unsafe(`
      create table notes (number bigint generated always as identity, serial bigserial, text text);
      insert into notes (text) values ('kept');
      create schema "other schema";
      create sequence "other schema"."other sequence";
      create type mood as enum ('good');
      create domain short as text check (length(value) < 9);
      create materialized view note_texts as select text from notes;
      create procedure nothing(integer, mood) language sql as 'select 1';`);
    expect(await listOwners(superuserDatabase)).toEqual([{ owner: SUPERUSER }] as never);
    await firstPostgres.stop();

    for (let round = 0; round < 2; round++) {
      const { openPool, stop } = await startPostgres(dataDir);
      const database = openPool();
      expect(await listOwners(database)).toEqual([{ owner: APPLICATION_ROLE }] as never);
      expect(await database`select text from notes where number = 1`).toEqual([{ text: "kept" }] as never);
      await database`insert into notes (text) values ('more')`;
      await database`refresh materialized view note_texts`;
      await database`alter type mood add value if not exists 'better'`;
      await database`select nextval('"other schema"."other sequence"')`;
      // Migrations can change Parley's functions and tables.
      await database`delete from sql_functions`;
      await migrate(database, silentLog);
      await database.unsafe(`alter table users add column extra_${round} integer`);
      await stop();
    }
  });

  test("owns its database even if the first start was killed before creating the database", async () => {
    const dataDir = join(createFolder(), "data");
    const firstPostgres = await startPostgres(dataDir);
    const adminDatabase = firstPostgres.openPool(SUPERUSER, "postgres");
    await adminDatabase`drop database parley`;
    await firstPostgres.stop();
    const { openPool } = await startPostgres(dataDir);
    expect(await listOwners(openPool())).toEqual([{ owner: APPLICATION_ROLE }] as never);
  });
});
