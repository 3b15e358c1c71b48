import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openDatabase } from "../../src/db/client.ts";
import { DATABASE_PASSWORD, type DatabaseServer, startDatabaseServer } from "../acceptance/database-server.ts";
import { TEST_TIMEOUT_MS } from "../acceptance/installation.ts";
import { startPgBouncer } from "../support/pgbouncer.ts";
import { findFreePort, startRedis, type TestRedis } from "../support/redis.ts";
import { runDoctor, TEST_SECRET } from "./run-doctor.ts";
import { runParley } from "./run-parley.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

let server: DatabaseServer;
let redis: TestRedis;
beforeAll(async () => {
  [server, redis] = await Promise.all([startDatabaseServer(), startRedis()]);
  const hbaFile = join(server.socketDirectory, "data/pg_hba.conf");
  writeFileSync(hbaFile, `host all all 127.0.0.1/32 scram-sha-256\n${readFileSync(hbaFile, "utf8")}`);
  await server.psql("select pg_reload_conf()");
});
afterAll(async () => {
  await Promise.all([server.stop(), redis.stop()]);
});

const settings = { JWT_SECRET: "a-secret-of-these-tests-that-is-long-enough" };

/**
 * Runs the doctor on a database. Warnings about fsync aren't listed but only counted, because the test server has fsync
 * off.
 */
async function runDatabaseDoctor(DATABASE_URL: string, extraEnv: Record<string, string> = {}) {
  const result = await runDoctor({ ...settings, DATABASE_URL, ...extraEnv }, { args: ["--offline"] });
  const isFsyncWarning = (message: string) => /\bfsync is off, so a crash/.test(message);
  return {
    ...result,
    listLines: (check: string) => result.listLines(check).filter((line) => !isFsyncWarning(line)),
    listIssues: (...ignoredChecks: string[]) =>
      result.listIssues(...ignoredChecks).filter(({ message }) => !isFsyncWarning(message)),
    fsyncWarningCount: result.report.findings.filter(({ message }) => isFsyncWarning(message)).length,
  };
}

async function createMigratedDatabase(): Promise<string> {
  const url = await server.createDatabase();
  const { code } = await runParley(["migrate"], { env: { ...settings, DATABASE_URL: url } });
  expect(code).toBe(0);
  return url;
}

test("the doctor finds no issues with working Postgres and Redis servers, before and after the first start", async () => {
  const url = await server.createDatabase();
  const empty = await runDatabaseDoctor(url, { REDIS_URL: redis.url });
  expect(empty.listIssues("providers")).toEqual([]);
  expect(empty.fsyncWarningCount).toBe(1);
  expect(empty.listLines("database")).toContain("ok: The database is empty; the first start creates Parley's tables.");
  expect(empty.listLines("redis")[0]).toMatch(/^ok: (?:Redis|Valkey) \d+\.\d+.* responds in /);
  expect(empty.listLines("clock")).toEqual([
    expect.stringMatching(/^ok: The clock agrees with (.*database.*Redis|Redis.*database)/),
  ]);
  const sql = openDatabase({ target: { url }, poolSize: 1 });
  expect(await sql`select 1 from pg_class where relnamespace = 'public'::regnamespace`).toHaveLength(0);
  await sql.end({ timeout: 1 });

  expect((await runDatabaseDoctor(await createMigratedDatabase())).listIssues("providers")).toEqual([]);
});

test("the doctor reports a wrong password, a missing database, a closed port and an unresponsive server", async () => {
  const url = await server.createDatabase();
  const withWrongPassword = await runDatabaseDoctor(url.replace(DATABASE_PASSWORD, TEST_SECRET));
  expect(withWrongPassword.listLines("database")).toEqual([
    expect.stringMatching(/^problem: Postgres rejected the login .* DATABASE_URL\.$/),
  ]);
  const withMissingDatabase = await runDatabaseDoctor(url.replace(/site_\w+$/, "nowhere"));
  expect(withMissingDatabase.listLines("database")).toEqual([
    expect.stringMatching(/^problem: The database does not exist /),
  ]);
  const withClosedPort = await runDatabaseDoctor(`postgres://parley:${TEST_SECRET}@127.0.0.1:${findFreePort()}/parley`);
  expect(withClosedPort.listLines("database")).toEqual([
    expect.stringMatching(/^problem: The database is unreachable /),
  ]);

  using unresponsiveServer = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const withoutResponse = await runDatabaseDoctor(
    `postgres://parley:${TEST_SECRET}@127.0.0.1:${unresponsiveServer.port}/parley`,
  );
  expect(withoutResponse.listLines("database")).toEqual([
    expect.stringMatching(/^problem: The database did not respond within 5 s/),
  ]);
  expect(withoutResponse.durationMs).toBeLessThan(15_000);
});

test("the doctor reports an unsupported encoding, missing permissions, a superuser and a read-only role", async () => {
  await server.psql("create database latin encoding 'LATIN1' locale 'C' template template0 owner parley");
  const createUrl = (user: string, database: string) =>
    `postgres://${user}:${DATABASE_PASSWORD}@127.0.0.1:${server.port}/${database}`;
  expect((await runDatabaseDoctor(createUrl("parley", "latin"))).listLines("database")[0]).toMatch(
    /^problem: .* has the encoding LATIN1/,
  );

  const migratedUrl = await createMigratedDatabase();
  const name = new URL(migratedUrl).pathname.slice(1);
  await server.psql(`create role reader login password '${DATABASE_PASSWORD}'`);
  const asUnprivileged = await runDatabaseDoctor(createUrl("reader", name));
  expect(asUnprivileged.listLines("database")[0]).toMatch(/^problem: /);
  expect(asUnprivileged.listLines("database").join("\n")).toMatch(
    /lacks permission|no permission|isn't allowed to read and write/,
  );

  await server.psql(`create role boss superuser login password '${DATABASE_PASSWORD}'`);
  const asSuperuser = await runDatabaseDoctor(createUrl("boss", name));
  expect(asSuperuser.code).toBe(0);
  expect(asSuperuser.listLines("database").slice(1)).toEqual([expect.stringMatching(/^warning: .* is a superuser/)]);

  await server.psql("alter role parley set default_transaction_read_only = on");
  const asReadOnly = await runDatabaseDoctor(migratedUrl);
  await server.psql("alter role parley reset default_transaction_read_only");
  expect(asReadOnly.listLines("database")[0]).toMatch(/^problem: .* is read-only for the role "parley"/);
});

test("the doctor reports pending and newer migrations, and a different program's tables", async () => {
  const url = await createMigratedDatabase();
  const sql = openDatabase({ target: { url }, poolSize: 1 });
  try {
    await sql`insert into migrations (name, checksum, version) values ('0099_later.sql', 'x', '9.8.7')`;
    expect((await runDatabaseDoctor(url)).listLines("database")[0]).toMatch(
      /^problem: .*0099_later\.sql.*Use Parley 9\.8\.7/,
    );
    await sql`delete from migrations where name like '0099%' or name = (select max(name) from migrations where name < '0099')`;
    const withPendingMigration = await runDatabaseDoctor(url);
    expect(withPendingMigration.code).toBe(0);
    expect(withPendingMigration.listLines("database")[1]).toMatch(
      /^warning: 1 migration of this version must be applied; .*parley migrate/,
    );
  } finally {
    await sql.end({ timeout: 1 });
  }
  const otherProgramUrl = await server.createDatabase();
  await server.psqlAt(otherProgramUrl, "create table messages ()");
  expect((await runDatabaseDoctor(otherProgramUrl)).listLines("database")[0]).toMatch(
    /^problem: .* has a table "messages" that doesn't belong/,
  );
});

test("the doctor reports too few connections and statements that wait for locks", async () => {
  const url = await createMigratedDatabase();
  const withLargePool = await runDatabaseDoctor(url, { DATABASE_POOL_SIZE: "200" });
  expect(withLargePool.listLines("database")[1]).toMatch(
    /^warning: One instance may open \d+ connections, but max_connections .* DATABASE_POOL_SIZE/,
  );

  const sql = openDatabase({ target: { url }, poolSize: 3 });
  const { promise: unlocked, resolve: unlock } = Promise.withResolvers<void>();
  const { promise: locked, resolve: markLocked } = Promise.withResolvers<void>();
  const lockHolder = sql.begin(async (transaction) => {
    await transaction`set local idle_in_transaction_session_timeout = 0`;
    await transaction`lock table users`;
    markLocked();
    await unlocked;
  });
  await locked;
  const lockWaiter = sql.begin(async (transaction) => {
    await transaction`set local lock_timeout = 0`;
    await transaction`select 1 from users`;
  });
  await Bun.sleep(3_500);
  const whileLocked = await runDatabaseDoctor(url);
  unlock();
  await Promise.all([lockHolder, lockWaiter]);
  await sql.end({ timeout: 1 });
  expect(whileLocked.listLines("database")[1]).toMatch(/^warning: 1 statement has waited for a lock/);
});

test("the doctor accepts a pooler in transaction mode, but not in statement mode", async () => {
  const url = new URL(await createMigratedDatabase());
  for (const mode of ["transaction", "statement"] as const) {
    const pooler = await startPgBouncer({
      socketDirectory: server.socketDirectory,
      port: server.port,
      mode,
      users: ["parley"],
    });
    try {
      const throughPooler = await runDatabaseDoctor(pooler.url(url.pathname.slice(1), "parley"));
      if (mode === "transaction")
        expect(throughPooler.listLines("database")[0]).toMatch(/^ok: .*through a pooler in transaction mode\.$/);
      else expect(throughPooler.listLines("database")[0]).toMatch(/^problem: .*pool_mode = transaction/);
    } finally {
      await pooler.stop();
    }
  }
});

test("the doctor reports a wrong Redis password, key eviction, an unresponsive Redis and a closed port", async () => {
  const url = await server.createDatabase();
  const listRedisFindings = async (REDIS_URL: string) =>
    (await runDatabaseDoctor(url, { REDIS_URL })).listLines("redis");
  const protectedRedis = await startRedis({
    requirepass: `right-${TEST_SECRET}`,
    maxmemory: "100mb",
    "maxmemory-policy": "allkeys-lru",
  });
  try {
    const createUrl = (credentials: string) => protectedRedis.url.replace("redis://", `redis://${credentials}`);
    expect(await listRedisFindings(createUrl(`:wrong-${TEST_SECRET}@`))).toEqual([
      expect.stringMatching(/^problem: .*WRONGPASS.*REDIS_URL\.$/),
    ]);
    expect(await listRedisFindings(protectedRedis.url)).toEqual([
      expect.stringMatching(/^problem: .*NOAUTH.*REDIS_URL\.$/),
    ]);
    const withCorrectPassword = await listRedisFindings(createUrl(`:right-${TEST_SECRET}@`));
    expect(withCorrectPassword).toEqual([
      expect.stringMatching(/^ok: /),
      expect.stringMatching(/^warning: .*allkeys-lru/),
    ]);
    protectedRedis.pause();
    expect(await listRedisFindings(createUrl(`:right-${TEST_SECRET}@`))).toEqual([
      expect.stringMatching(/^problem: Redis at 127\.0\.0\.1:\d+ can't be used/),
    ]);
    protectedRedis.resume();
  } finally {
    await protectedRedis.stop();
  }
  expect(await listRedisFindings(`redis://u:${TEST_SECRET}@127.0.0.1:${findFreePort()}`)).toEqual([
    expect.stringMatching(/^problem: .*ECONNREFUSED.*check that it is running/),
  ]);
});
