import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { ArchiveError, type ByteSource, restoreBackup, verifyBackup, writeBackup } from "../../src/db/archive.ts";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { bundledSql, migrate } from "../../src/db/migrate.ts";
import { prepareSession } from "../../src/db/session-check.ts";
import { silentLog } from "../support/log.ts";
import { startPgBouncer } from "../support/pgbouncer.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { DIFFICULT_STRINGS, fillDatabase, summarizeTables } from "./sample-data.ts";

const secret = { value: "a secret for tests, longer than 32 bytes", isConfigured: false };
const notEmptyRemedy = "use another one";
/** Tables that every Parley build fills with its own rows. */
const ignoredTables = ["sql_functions"];

const cleanups: (() => Promise<unknown>)[] = [];
afterAll(async () => {
  for (const cleanUp of cleanups.splice(0)) await cleanUp();
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
  const emptyDatabase = openDatabase({ target, poolSize: 3 });
  cleanups.push(() => emptyDatabase.end({ timeout: 1 }));
  return emptyDatabase;
}

async function backUp(database: Database, passphrase?: string): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  const sink = async (bytes: Uint8Array) => void chunks.push(Buffer.from(bytes));
  await writeBackup({ database, sink, secret, passphrase });
  return Buffer.concat(chunks);
}

async function* createSource(bytes: Uint8Array, chunkBytes = 7_777): ByteSource {
  for (let offset = 0; offset < bytes.length; offset += chunkBytes) yield bytes.subarray(offset, offset + chunkBytes);
}

const getFailureReason = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => "fulfilled",
    (error) => (error instanceof ArchiveError ? error.reason : error),
  );

const restore = (bytes: Uint8Array, database: Database, options = {}) =>
  restoreBackup(createSource(bytes), { database, log: silentLog, notEmptyRemedy, ...options });

let sourceDatabase: Database;
let plainBackup: Buffer;
let encryptedBackup: Buffer;
beforeAll(async () => {
  sourceDatabase = await createDatabase();
  await fillDatabase(sourceDatabase);
  // The data fills several parts, and exceeds a connection's buffer.
  await sourceDatabase`
    insert into webhook_outbox (conversations, seqs, types, at)
    select array[md5(n::text)::uuid], array[n], array(select md5((n * 1000 + k)::text) from generate_series(1, 100) k), '2026-01-01'
    from generate_series(1, 1000) n`;
  plainBackup = await backUp(sourceDatabase);
  encryptedBackup = await backUp(sourceDatabase, "correct horse");
}, 60_000);

describe("a restored database", () => {
  test("has the same rows, indexes and constraints", async () => {
    const target = await createDatabase({ isMigrated: false });
    const secrets: string[] = [];
    const summary = await restore(plainBackup, target, { onSecret: async (value: string) => void secrets.push(value) });
    expect(secrets).toEqual([secret.value]);
    expect(summary.migrated).toEqual([]);
    const summaries = await summarizeTables(sourceDatabase, ignoredTables);
    expect(Object.keys(summaries).length).toBeGreaterThan(50);
    expect(summaries.messages?.rows).toBe(200);
    expect(await summarizeTables(target, ignoredTables)).toEqual(summaries);
    const [difficultRow] = await target`
      select count(*)::int from messages where content = any (${DIFFICULT_STRINGS.map((text) => `${text} 8`)}::text[])`;
    expect(difficultRow?.count).toBe(5);
    expect(await describeSchema(target)).toEqual(await describeSchema(sourceDatabase));
    const [sequence] =
      await target`insert into search_outbox (conversations, messages) values ('{}', '{}') returning id`;
    expect(sequence?.id).toBe(6);
  }, 60_000);

  test("can be an existing empty Parley database, and the backup can be encrypted", async () => {
    const target = await createDatabase();
    await restore(encryptedBackup, target, { getPassphrase: async () => "correct horse" });
    expect(await summarizeTables(target, ignoredTables)).toEqual(await summarizeTables(sourceDatabase, ignoredTables));
    expect(await describeSchema(target)).toEqual(await describeSchema(sourceDatabase));
  }, 60_000);

  test("is migrated if the backup has an older schema", async () => {
    const olderDatabase = await createDatabase({ isMigrated: false });
    const migrations = bundledSql.migrations.slice(0, 8);
    await migrate(olderDatabase, silentLog, { sources: { migrations, functions: [], functionsRevision: 0 } });
    await olderDatabase`insert into users (id, email, email_key, display_name) values (md5('a')::uuid, 'a@b.c', 'a@b.c', 'A')`;
    await olderDatabase`
      insert into conversations (id, kind, reply_mode, last_seq) values (md5('c')::uuid, 'group', 'never', 2)`;
    await olderDatabase`
      insert into messages (conversation_id, seq, id, role, author_id, content)
      select md5('c')::uuid, n, gen_random_uuid(), 'user', md5('a')::uuid, 'text ' || n from generate_series(1, 2) n`;
    const target = await createDatabase();
    const summary = await restore(await backUp(olderDatabase), target);
    expect(summary.migrated).toEqual(bundledSql.migrations.slice(8).map(({ name }) => name));
    expect([...(await target`select content, supplied_by from messages order by seq`)]).toEqual([
      { content: "text 1", supplied_by: null },
      { content: "text 2", supplied_by: null },
    ]);
    // The last migration counts the messages.
    expect((await target`select message_count from conversations`)[0]?.message_count).toBe(2);
    expect(await describeSchema(target)).toEqual(await describeSchema(sourceDatabase));
  }, 60_000);
});

describe("a restore changes nothing", () => {
  test("if the database has users", async () => {
    const target = await createDatabase();
    await fillDatabase(target, { users: 1, messages: 1 });
    const summariesBefore = await summarizeTables(target);
    const failure = await restore(plainBackup, target).catch((error) => error);
    expect(failure).toBeInstanceOf(ArchiveError);
    expect(failure.message).toBe("The database is not empty: it has users. Nothing was changed; use another one.");
    expect(await summarizeTables(target)).toEqual(summariesBefore);
  }, 60_000);

  test("if the backup is damaged or truncated, or the restore is aborted", async () => {
    const target = await createDatabase({ isMigrated: false });
    const damagedBackup = Buffer.from(plainBackup);
    damagedBackup[damagedBackup.length - 20] = (damagedBackup[damagedBackup.length - 20] ?? 0) ^ 1;
    expect(await getFailureReason(restore(damagedBackup, target))).toBe("damaged");
    expect(await getFailureReason(restore(plainBackup.subarray(0, -50), target))).toBe("truncated");
    for (const callback of ["onProgress", "onStep", "onSecret"]) {
      const controller = new AbortController();
      const abort = () => controller.abort(new Error("enough"));
      const failure = await restore(plainBackup, target, { signal: controller.signal, [callback]: abort }).catch(
        (error) => error,
      );
      expect({ callback, message: failure.message }).toEqual({ callback, message: "enough" });
      expect({ callback, tables: await summarizeTables(target) }).toEqual({ callback, tables: {} });
    }
    expect(await summarizeTables(target)).toEqual({});
    await restore(plainBackup, target);
    expect((await summarizeTables(target)).messages?.rows).toBe(200);
  }, 60_000);

  test("if the backup has a migration that this build doesn't know", async () => {
    const newerDatabase = await createDatabase();
    const bytes = await backUp(newerDatabase);
    await newerDatabase`insert into migrations (name, checksum, version) values ('0099_later.sql', 'x', '9.8.7')`;
    expect((await backUp(newerDatabase).catch((error) => error)).message).toMatch(
      /0099_later\.sql.*Use Parley 9\.8\.7/,
    );
    const target = await createDatabase();
    const removedMigration = bundledSql.migrations.pop();
    try {
      const failure = await restore(bytes, target).catch((error) => error);
      expect(failure.message).toContain(`newer Parley`);
      expect(failure.message).toContain(removedMigration?.name ?? "");
    } finally {
      if (removedMigration) bundledSql.migrations.push(removedMigration);
    }
  }, 60_000);

  test("while a running Parley uses the database", async () => {
    const { target } = await createTestDatabase(1);
    const database = openDatabase({ target, poolSize: 3 });
    const session = { application_name: "parley other-instance" };
    const otherInstance = openDatabase({ target, poolSize: 1, session });
    cleanups.push(
      () => database.end({ timeout: 1 }),
      () => otherInstance.end({ timeout: 1 }),
    );
    await otherInstance`select 1`;
    const failure = await restore(plainBackup, database).catch((error) => error);
    expect(failure.message).toContain("Parley is running on this database");
    await otherInstance.end();
    await restore(plainBackup, database);
  }, 60_000);
});

describe("a backup", () => {
  test("is a consistent snapshot despite concurrent writes", async () => {
    const database = await createDatabase();
    await fillDatabase(database);
    const summariesBefore = await summarizeTables(database, ignoredTables);
    const chunks: Uint8Array[] = [];
    let isChanged = false;
    await writeBackup({
      database,
      secret,
      async sink(bytes) {
        chunks.push(Buffer.from(bytes));
        if (isChanged || chunks.length < 4) return;
        isChanged = true;
        await database`delete from messages where seq % 2 = 0`;
        await database`insert into users (id, email, email_key, display_name) values (md5('new')::uuid, 'n@b.c', 'n@b.c', 'N')`;
      },
    });
    expect(isChanged).toBe(true);
    const target = await createDatabase();
    await restore(Buffer.concat(chunks), target);
    expect(await summarizeTables(target, ignoredTables)).toEqual(summariesBefore);
  }, 60_000);

  test("can be unpacked with other programs", async () => {
    if (!Bun.which("zstd") || !Bun.which("tar")) {
      console.warn("zstd or tar is missing, so the backup is not unpacked with them.");
      return;
    }
    const unpackProcess = Bun.spawn(["sh", "-c", "zstd -dc | tar -xO tables/users/000001.copy"], {
      stdin: new Blob([plainBackup]),
    });
    const rows = (await new Response(unpackProcess.stdout).text()).trimEnd().split("\n");
    expect(await unpackProcess.exited).toBe(0);
    expect(rows.map((row) => row.split("\t")[1])).toEqual([1, 2, 3, 4, 5].map((n) => `p${n}@example.com`));
  });

  test("leaves no transaction open if its sink fails or it is aborted", async () => {
    const failingSink = async () => Promise.reject(new Error("disk full"));
    for (const passphrase of [undefined, "x"])
      await expect(writeBackup({ database: sourceDatabase, sink: failingSink, secret, passphrase })).rejects.toThrow(
        "disk full",
      );
    const controller = new AbortController();
    const sink = async () => controller.abort(new Error("enough"));
    await expect(writeBackup({ database: sourceDatabase, sink, secret, signal: controller.signal })).rejects.toThrow(
      "enough",
    );
    const [openTransactions] = await sourceDatabase`
      select count(*)::int from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'`;
    expect(openTransactions?.count).toBe(0);
  }, 60_000);

  // The embedded Postgres can't have a pooler: its socket folder is private.
  test.skipIf(process.env.TEST_POSTGRES === "embedded")(
    "works through PgBouncer in transaction mode, but a restore is rejected",
    async () => {
      const { target, name, database } = await createTestDatabase(3);
      await fillDatabase(database);
      const bouncer = await startPgBouncer({
        socketDirectory: target.socketDirectory,
        mode: "transaction",
        users: [target.user],
      });
      const url = bouncer.url(name, target.user);
      const pooledDatabase = openDatabase({ target: { url }, poolSize: 3 });
      try {
        await prepareSession(pooledDatabase, silentLog);
        const { tables } = await verifyBackup(createSource(await backUp(pooledDatabase)));
        expect(tables.find(({ name }) => name === "messages")?.rows).toBe(200);
        const failure = await restore(plainBackup, pooledDatabase).catch((error) => error);
        expect(failure.message).toContain("connect DATABASE_URL directly to Postgres");
      } finally {
        await pooledDatabase.end({ timeout: 1 });
        await database.end({ timeout: 1 });
        await bouncer.stop();
      }
    },
    60_000,
  );

  test("isn't possible for a database without Parley's tables", async () => {
    expect(await getFailureReason(backUp(await createDatabase({ isMigrated: false })))).toBe("target");
  }, 60_000);
});

describe("verification", () => {
  const verify = (bytes: Uint8Array, passphrase?: string) =>
    verifyBackup(createSource(bytes), passphrase === undefined ? {} : { getPassphrase: async () => passphrase });

  test("reports the same contents for a plain and an encrypted backup", async () => {
    const summary = await verify(plainBackup);
    expect(summary.tables.find(({ name }) => name === "messages")).toMatchObject({ rows: 200 });
    expect(summary.migrations).toEqual(bundledSql.migrations.map(({ name }) => name));
    expect(summary).toMatchObject({ isEncrypted: false, jwtSecret: { state: "included" } });
    expect((await verifyBackup(createSource(plainBackup, 1))).tables).toEqual(summary.tables);
    expect(await verify(encryptedBackup, "correct horse")).toMatchObject({ isEncrypted: true, tables: summary.tables });
  }, 60_000);

  test("detects any changed byte in a plain backup", async () => {
    const undetected: unknown[] = [];
    // Changes every byte near the start and the end, and bytes at random positions.
    const edgeOffsets = Array.from({ length: 200 }, (_, n) => [n, plainBackup.length - 1 - n]).flat();
    const randomOffsets = Array.from({ length: 300 }, () => Math.floor(Math.random() * plainBackup.length));
    for (const offset of [...edgeOffsets, ...randomOffsets]) {
      const damagedBackup = Buffer.from(plainBackup);
      damagedBackup[offset] = (damagedBackup[offset] ?? 0) ^ (1 << Math.floor(Math.random() * 8));
      const reason = await getFailureReason(verify(damagedBackup));
      // If one of the first bytes is changed, the file isn't recognized as a backup.
      if (reason !== "damaged" && !(offset < 24 && reason === "foreign")) undetected.push([offset, reason]);
    }
    expect(undetected).toEqual([]);
  }, 60_000);

  test("detects a plain backup that is truncated to any length", async () => {
    const undetected: unknown[] = [];
    for (
      let length = 1;
      length < plainBackup.length;
      length += length < 100 ? 1 : Math.ceil(plainBackup.length / 150)
    ) {
      const reason = await getFailureReason(verify(plainBackup.subarray(0, length)));
      if (reason !== "truncated") undetected.push([length, reason]);
    }
    expect(undetected).toEqual([]);
  }, 60_000);

  test("rejects trailing data, other files, a newer format, and a missing passphrase", async () => {
    expect(await getFailureReason(verify(Buffer.concat([plainBackup, Buffer.from("x")])))).toBe("damaged");
    for (const otherFile of ["", "SQLite format 3\0", "PK\u0003\u0004", "x".repeat(100_000)])
      expect(await getFailureReason(verify(Buffer.from(otherFile)))).toBe("foreign");
    expect(await getFailureReason(verify(Bun.zstdCompressSync("a file of another program")))).toBe("foreign");
    const { encodeStart } = await import("../../src/db/archive/format.ts");
    const newerBackup = Buffer.concat([encodeStart(2), plainBackup.subarray(encodeStart().length)]);
    expect(await getFailureReason(verify(newerBackup))).toBe("newer");
    expect(await getFailureReason(verify(encryptedBackup))).toBe("passphrase");
  }, 60_000);

  test("distinguishes a wrong passphrase from a damaged or truncated encrypted backup", async () => {
    expect(await getFailureReason(verify(encryptedBackup, "wrong"))).toBe("passphrase");
    const damagedBackup = Buffer.from(encryptedBackup);
    damagedBackup[1_000] = (damagedBackup[1_000] ?? 0) ^ 1;
    expect(["damaged", "truncated"]).toContain(
      (await getFailureReason(verify(damagedBackup, "correct horse"))) as string,
    );
    expect(await getFailureReason(verify(encryptedBackup.subarray(0, -100), "correct horse"))).toBe("truncated");
  }, 60_000);
});

/** Returns the database's columns, indexes, constraints, triggers and functions, for comparison. */
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
])("an encryption header with %s is rejected without being buffered", async (_what, start, continuation) => {
  let sentBytes = 0;
  async function* generateHeader(): ByteSource {
    yield Buffer.from(`age-encryption.org/v1\n${start}`);
    for (; sentBytes < 100_000_000; sentBytes += continuation.length) yield Buffer.from(continuation);
  }
  expect(await getFailureReason(verifyBackup(generateHeader(), { getPassphrase: async () => "x" }))).toBe("damaged");
  expect(sentBytes).toBeLessThan(2_000_000);
});
