import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { ArchiveError, type ByteSource, restoreBackup, verifyBackup, writeBackup } from "../../src/db/archive.ts";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { bundledSql, migrate } from "../../src/db/migrate.ts";
import { prepareSession } from "../../src/db/session-check.ts";
import { silentLog } from "../support/log.ts";
import { startPgBouncer } from "../support/pgbouncer.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { fillDatabase, ODD_TEXTS, sumTables } from "./sample-data.ts";

const secret = { value: "the secret of the tests, of 32 bytes and more", isConfigured: false };
const emptyRemedy = "use another one";
/** Rebuilt with each build. */
const ignoredTables = ["sql_functions"];

const cleanups: (() => Promise<unknown>)[] = [];
afterAll(async () => {
  for (const step of cleanups.splice(0)) await step();
});

async function createDatabase({ isMigrated = true } = {}): Promise<Database> {
  const { database, target, name } = await createTestDatabase(3);
  if (isMigrated) {
    cleanups.push(() => database.end({ timeout: 1 }));
    return database;
  }
  await database.end({ timeout: 1 });
  const admin = openDatabase({ target: { ...target, database: "postgres" }, poolSize: 1 });
  await admin.unsafe(`drop database ${name}`);
  await admin.unsafe(`create database ${name}`);
  await admin.end();
  const empty = openDatabase({ target, poolSize: 3 });
  cleanups.push(() => empty.end({ timeout: 1 }));
  return empty;
}

async function backUp(database: Database, passphrase?: string): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  const sink = async (bytes: Uint8Array) => void pieces.push(Buffer.from(bytes));
  await writeBackup({ database, sink, secret, passphrase });
  return Buffer.concat(pieces);
}

async function* sourceOf(bytes: Uint8Array, pieceBytes = 7_777): ByteSource {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

const reasonOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => "fulfilled",
    (error) => (error instanceof ArchiveError ? error.reason : error),
  );

const restore = (bytes: Uint8Array, database: Database, more = {}) =>
  restoreBackup(sourceOf(bytes), { database, log: silentLog, emptyRemedy, ...more });

let source: Database;
let plain: Buffer;
let encrypted: Buffer;
beforeAll(async () => {
  source = await createDatabase();
  await fillDatabase(source);
  // Several parts, and more data than a connection buffers.
  await source`
    insert into webhook_outbox (conversations, seqs, types, at)
    select array[md5(n::text)::uuid], array[n], array(select md5((n * 1000 + k)::text) from generate_series(1, 100) k), '2026-01-01'
    from generate_series(1, 1000) n`;
  plain = await backUp(source);
  encrypted = await backUp(source, "correct horse");
}, 60_000);

describe("a restored database", () => {
  test("has the rows of every table, byte by byte, and the same indexes and constraints", async () => {
    const target = await createDatabase({ isMigrated: false });
    const secrets: string[] = [];
    const summary = await restore(plain, target, { onSecret: async (value: string) => void secrets.push(value) });
    expect(secrets).toEqual([secret.value]);
    expect(summary.migrated).toEqual([]);
    const sums = await sumTables(source, ignoredTables);
    expect(Object.keys(sums).length).toBeGreaterThan(50);
    expect(sums.messages?.rows).toBe(200);
    expect(await sumTables(target, ignoredTables)).toEqual(sums);
    const [odd] = await target`
      select count(*)::int from messages where content = any (${ODD_TEXTS.map((text) => `${text} 8`)}::text[])`;
    expect(odd?.count).toBe(5);
    expect(await describeSchema(target)).toEqual(await describeSchema(source));
    const [sequence] =
      await target`insert into search_outbox (conversations, messages) values ('{}', '{}') returning id`;
    expect(sequence?.id).toBe(6);
  }, 60_000);

  test("is recreated where only an empty Parley exists, also from an encrypted backup", async () => {
    const target = await createDatabase();
    await restore(encrypted, target, { getPassphrase: async () => "correct horse" });
    expect(await sumTables(target, ignoredTables)).toEqual(await sumTables(source, ignoredTables));
    expect(await describeSchema(target)).toEqual(await describeSchema(source));
  }, 60_000);

  test("from an older schema's backup is migrated", async () => {
    const older = await createDatabase({ isMigrated: false });
    const migrations = bundledSql.migrations.slice(0, 8);
    await migrate(older, silentLog, { sources: { migrations, functions: [], functionsRevision: 0 } });
    await older`insert into users (id, email, email_key, display_name) values (md5('a')::uuid, 'a@b.c', 'a@b.c', 'A')`;
    await older`
      insert into conversations (id, kind, reply_mode, last_seq) values (md5('c')::uuid, 'group', 'never', 2)`;
    await older`
      insert into messages (conversation_id, seq, id, role, author_id, content)
      select md5('c')::uuid, n, gen_random_uuid(), 'user', md5('a')::uuid, 'text ' || n from generate_series(1, 2) n`;
    const target = await createDatabase();
    const summary = await restore(await backUp(older), target);
    expect(summary.migrated).toEqual(bundledSql.migrations.slice(8).map(({ name }) => name));
    expect([...(await target`select content, supplied_by from messages order by seq`)]).toEqual([
      { content: "text 1", supplied_by: null },
      { content: "text 2", supplied_by: null },
    ]);
    // Counted by the last migration.
    expect((await target`select message_count from conversations`)[0]?.message_count).toBe(2);
    expect(await describeSchema(target)).toEqual(await describeSchema(source));
  }, 60_000);
});

describe("nothing is changed", () => {
  test("in a database with users", async () => {
    const target = await createDatabase();
    await fillDatabase(target, { users: 1, messages: 1 });
    const before = await sumTables(target);
    const failure = await restore(plain, target).catch((error) => error);
    expect(failure).toBeInstanceOf(ArchiveError);
    expect(failure.message).toBe("The database is not empty: it has users. Nothing was changed; use another one.");
    expect(await sumTables(target)).toEqual(before);
  }, 60_000);

  test("by a backup with damaged last bytes, truncated, or aborted; then an intact one is restored", async () => {
    const target = await createDatabase({ isMigrated: false });
    const damaged = Buffer.from(plain);
    damaged[damaged.length - 20] = (damaged[damaged.length - 20] ?? 0) ^ 1;
    expect(await reasonOf(restore(damaged, target))).toBe("damaged");
    expect(await reasonOf(restore(plain.subarray(0, -50), target))).toBe("truncated");
    for (const moment of ["onProgress", "onStep", "onSecret"]) {
      const controller = new AbortController();
      const abort = () => controller.abort(new Error("enough"));
      const failure = await restore(plain, target, { signal: controller.signal, [moment]: abort }).catch(
        (error) => error,
      );
      expect({ moment, message: failure.message }).toEqual({ moment, message: "enough" });
      expect({ moment, tables: await sumTables(target) }).toEqual({ moment, tables: {} });
    }
    expect(await sumTables(target)).toEqual({});
    await restore(plain, target);
    expect((await sumTables(target)).messages?.rows).toBe(200);
  }, 60_000);

  test("by a backup with a migration unknown to this build", async () => {
    const newer = await createDatabase();
    const bytes = await backUp(newer);
    await newer`insert into migrations (name, checksum, version) values ('0099_later.sql', 'x', '9.8.7')`;
    expect((await backUp(newer).catch((error) => error)).message).toMatch(/0099_later\.sql.*Use Parley 9\.8\.7/);
    const target = await createDatabase();
    const known = bundledSql.migrations.pop();
    try {
      const failure = await restore(bytes, target).catch((error) => error);
      expect(failure.message).toContain(`newer Parley`);
      expect(failure.message).toContain(known?.name ?? "");
    } finally {
      if (known) bundledSql.migrations.push(known);
    }
  }, 60_000);

  test("while another Parley uses the database", async () => {
    const { target } = await createTestDatabase(1);
    const database = openDatabase({ target, poolSize: 3 });
    const session = { application_name: "parley of others" };
    const other = openDatabase({ target, poolSize: 1, session });
    cleanups.push(
      () => database.end({ timeout: 1 }),
      () => other.end({ timeout: 1 }),
    );
    await other`select 1`;
    const failure = await restore(plain, database).catch((error) => error);
    expect(failure.message).toContain("Parley is running on this database");
    await other.end();
    await restore(plain, database);
  }, 60_000);
});

describe("a backup", () => {
  test("is one snapshot, without concurrent writes", async () => {
    const database = await createDatabase();
    await fillDatabase(database);
    const before = await sumTables(database, ignoredTables);
    const pieces: Uint8Array[] = [];
    let isChanged = false;
    await writeBackup({
      database,
      secret,
      async sink(bytes) {
        pieces.push(Buffer.from(bytes));
        if (isChanged || pieces.length < 4) return;
        isChanged = true;
        await database`delete from messages where seq % 2 = 0`;
        await database`insert into users (id, email, email_key, display_name) values (md5('new')::uuid, 'n@b.c', 'n@b.c', 'N')`;
      },
    });
    expect(isChanged).toBe(true);
    const target = await createDatabase();
    await restore(Buffer.concat(pieces), target);
    expect(await sumTables(target, ignoredTables)).toEqual(before);
  }, 60_000);

  test("is an archive that other programs can unpack", async () => {
    if (!Bun.which("zstd") || !Bun.which("tar")) {
      console.warn("zstd or tar is missing, so the backup is not unpacked with them.");
      return;
    }
    const unpack = Bun.spawn(["sh", "-c", "zstd -dc | tar -xO tables/users/000001.copy"], { stdin: new Blob([plain]) });
    const rows = (await new Response(unpack.stdout).text()).trimEnd().split("\n");
    expect(await unpack.exited).toBe(0);
    expect(rows.map((row) => row.split("\t")[1])).toEqual([1, 2, 3, 4, 5].map((n) => `p${n}@example.com`));
  });

  test("is aborted if its sink fails or it is cancelled, and leaves the database usable", async () => {
    const failing = async () => Promise.reject(new Error("no room"));
    for (const passphrase of [undefined, "x"])
      await expect(writeBackup({ database: source, sink: failing, secret, passphrase })).rejects.toThrow("no room");
    const controller = new AbortController();
    const sink = async () => controller.abort(new Error("enough"));
    await expect(writeBackup({ database: source, sink, secret, signal: controller.signal })).rejects.toThrow("enough");
    const [open] = await source`
      select count(*)::int from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'`;
    expect(open?.count).toBe(0);
  }, 60_000);

  // The embedded Postgres can't have a pooler: its socket folder is private.
  test.skipIf(process.env.TEST_POSTGRES === "embedded")(
    "works behind PgBouncer in transaction mode, where a restore is rejected",
    async () => {
      const { target, name, database } = await createTestDatabase(3);
      await fillDatabase(database);
      const bouncer = await startPgBouncer({
        socketDirectory: target.socketDirectory,
        mode: "transaction",
        users: [target.user],
      });
      const url = bouncer.url(name, target.user);
      const pooled = openDatabase({ target: { url }, poolSize: 3 });
      try {
        await prepareSession(pooled, silentLog);
        const { tables } = await verifyBackup(sourceOf(await backUp(pooled)));
        expect(tables.find(({ name }) => name === "messages")?.rows).toBe(200);
        const failure = await restore(plain, pooled).catch((error) => error);
        expect(failure.message).toContain("set DATABASE_URL to Postgres itself");
      } finally {
        await pooled.end({ timeout: 1 });
        await database.end({ timeout: 1 });
        await bouncer.stop();
      }
    },
    60_000,
  );

  test("of a database without Parley's tables is rejected", async () => {
    expect(await reasonOf(backUp(await createDatabase({ isMigrated: false })))).toBe("target");
  }, 60_000);
});

describe("verify", () => {
  const verify = (bytes: Uint8Array, passphrase?: string) =>
    verifyBackup(sourceOf(bytes), passphrase === undefined ? {} : { getPassphrase: async () => passphrase });

  test("reports the contents, the same for a plain and an encrypted one, in chunks of any length", async () => {
    const summary = await verify(plain);
    expect(summary.tables.find(({ name }) => name === "messages")).toMatchObject({ rows: 200 });
    expect(summary.migrations).toEqual(bundledSql.migrations.map(({ name }) => name));
    expect(summary).toMatchObject({ isEncrypted: false, jwtSecret: { state: "included" } });
    expect((await verifyBackup(sourceOf(plain, 1))).tables).toEqual(summary.tables);
    expect(await verify(encrypted, "correct horse")).toMatchObject({ isEncrypted: true, tables: summary.tables });
  }, 60_000);

  test("finds each changed byte of a plain backup", async () => {
    const wrong: unknown[] = [];
    // Every byte at the start and the end, others at random positions.
    const ends = Array.from({ length: 200 }, (_, n) => [n, plain.length - 1 - n]).flat();
    const others = Array.from({ length: 300 }, () => Math.floor(Math.random() * plain.length));
    for (const at of [...ends, ...others]) {
      const damaged = Buffer.from(plain);
      damaged[at] = (damaged[at] ?? 0) ^ (1 << Math.floor(Math.random() * 8));
      const reason = await reasonOf(verify(damaged));
      // The first bytes identify a backup.
      if (reason !== "damaged" && !(at < 24 && reason === "foreign")) wrong.push([at, reason]);
    }
    expect(wrong).toEqual([]);
  }, 60_000);

  test("detects a truncated plain backup, wherever it ends", async () => {
    const wrong: unknown[] = [];
    for (let at = 1; at < plain.length; at += at < 100 ? 1 : Math.ceil(plain.length / 150)) {
      const reason = await reasonOf(verify(plain.subarray(0, at)));
      // The very first bytes could be of any format.
      if (reason !== "truncated") wrong.push([at, reason]);
    }
    expect(wrong).toEqual([]);
  }, 60_000);

  test("rejects trailing data, other files, a newer format, and a missing passphrase", async () => {
    expect(await reasonOf(verify(Buffer.concat([plain, Buffer.from("x")])))).toBe("damaged");
    for (const foreign of ["", "SQLite format 3\0", "PK\u0003\u0004", "x".repeat(100_000)])
      expect(await reasonOf(verify(Buffer.from(foreign)))).toBe("foreign");
    expect(await reasonOf(verify(Bun.zstdCompressSync("a file of another program")))).toBe("foreign");
    const { encodeStart } = await import("../../src/db/archive/format.ts");
    const newer = Buffer.concat([encodeStart(2), plain.subarray(encodeStart().length)]);
    expect(await reasonOf(verify(newer))).toBe("newer");
    expect(await reasonOf(verify(encrypted))).toBe("passphrase");
  }, 60_000);

  test("of an encrypted one distinguishes a wrong passphrase, changed bytes, and a missing end", async () => {
    expect(await reasonOf(verify(encrypted, "wrong"))).toBe("passphrase");
    const damaged = Buffer.from(encrypted);
    damaged[1_000] = (damaged[1_000] ?? 0) ^ 1;
    expect(["damaged", "truncated"]).toContain((await reasonOf(verify(damaged, "correct horse"))) as string);
    expect(await reasonOf(verify(encrypted.subarray(0, -100), "correct horse"))).toBe("truncated");
  }, 60_000);
});

/** Columns, indexes, constraints, triggers and functions, as described by Postgres. */
async function describeSchema(sql: Database): Promise<unknown> {
  const [schema] = await sql`
    select
      (select jsonb_object_agg(c.relname || '.' || a.attname,
         format_type(a.atttypid, a.atttypmod) || a.attnotnull || a.attidentity::text || a.attstorage::text || coalesce(array_to_string(c.reloptions, ','), ''))
       from pg_attribute a join pg_class c on c.oid = a.attrelid
       where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped) as columns,
      (select jsonb_object_agg(indexname, indexdef) from pg_indexes where schemaname = 'public') as indexes,
      (select jsonb_object_agg(conrelid::regclass || '.' || conname, pg_get_constraintdef(oid) || convalidated)
       from pg_constraint where connamespace = 'public'::regnamespace) as constraints,
      (select jsonb_object_agg(tgrelid::regclass || '.' || tgname, pg_get_triggerdef(oid) || tgenabled::text)
       from pg_trigger where not tgisinternal) as triggers,
      (select count(*)::int from pg_proc where pronamespace = 'public'::regnamespace) as functions`;
  return schema;
}

test.each([
  ["an endless line", "-> scrypt aaaa", "a".repeat(65_536)],
  ["endless lines", "", "-> X25519 aaaa\n".repeat(4_096)],
])("an encryption header with %s is damaged, and is not buffered", async (_what, begin, more) => {
  let givenBytes = 0;
  async function* give(): ByteSource {
    yield Buffer.from(`age-encryption.org/v1\n${begin}`);
    for (; givenBytes < 100_000_000; givenBytes += more.length) yield Buffer.from(more);
  }
  expect(await reasonOf(verifyBackup(give(), { getPassphrase: async () => "x" }))).toBe("damaged");
  expect(givenBytes).toBeLessThan(2_000_000);
});
