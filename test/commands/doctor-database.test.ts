import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openDatabase } from "../../src/db/client.ts";
import { DATABASE_PASSWORD, type DatabaseServer, startDatabaseServer } from "../acceptance/database-server.ts";
import { TEST_TIMEOUT_MS } from "../acceptance/site.ts";
import { startPgBouncer } from "../support/pgbouncer.ts";
import { findFreePort, startRedis, type TestRedis } from "../support/redis.ts";
import { MARK, runDoctor } from "./run-doctor.ts";
import { runParley } from "./run-parley.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

let server: DatabaseServer;
let redis: TestRedis;
beforeAll(async () => {
  [server, redis] = await Promise.all([startDatabaseServer(), startRedis()]);
  const hba = join(server.socketDirectory, "data/pg_hba.conf");
  writeFileSync(hba, `host all all 127.0.0.1/32 scram-sha-256\n${readFileSync(hba, "utf8")}`);
  await server.psql("select pg_reload_conf()");
});
afterAll(async () => {
  await Promise.all([server.stop(), redis.stop()]);
});

const settings = { JWT_SECRET: "a-secret-of-these-tests-that-is-long-enough" };

/** The server of these tests runs without fsync, which is warned about each time, and only then. */
async function doctor(DATABASE_URL: string, more: Record<string, string> = {}) {
  const found = await runDoctor({ ...settings, DATABASE_URL, ...more }, { args: ["--offline"] });
  const isFsync = (text: string) => /\bfsync is off, so a crash/.test(text);
  return {
    ...found,
    linesOf: (check: string) => found.linesOf(check).filter((line) => !isFsync(line)),
    listTroubles: (...except: string[]) => found.listTroubles(...except).filter(({ message }) => !isFsync(message)),
    fsyncWarnings: found.report.findings.filter(({ message }) => isFsync(message)).length,
  };
}

async function createMigrated(): Promise<string> {
  const url = await server.createDatabase();
  const { code } = await runParley(["migrate"], { env: { ...settings, DATABASE_URL: url } });
  expect(code).toBe(0);
  return url;
}

test("a server with Redis is healthy, also before the first start", async () => {
  const url = await server.createDatabase();
  const empty = await doctor(url, { REDIS_URL: redis.url });
  expect(empty.listTroubles("providers")).toEqual([]);
  expect(empty.fsyncWarnings).toBe(1);
  expect(empty.linesOf("database")).toContain("ok: The database is empty; the first start creates Parley's tables.");
  expect(empty.linesOf("redis")[0]).toMatch(/^ok: (?:Redis|Valkey) \d+\.\d+.* responds in /);
  expect(empty.linesOf("clock")).toEqual([
    expect.stringMatching(/^ok: The clock agrees with (.*database.*Redis|Redis.*database)/),
  ]);
  const sql = openDatabase({ target: { url }, poolSize: 1 });
  expect(await sql`select 1 from pg_class where relnamespace = 'public'::regnamespace`).toHaveLength(0);
  await sql.end({ timeout: 1 });

  expect((await doctor(await createMigrated())).listTroubles("providers")).toEqual([]);
});

test("a wrong password, a wrong database, a closed port, and a server that doesn't respond", async () => {
  const url = await server.createDatabase();
  const wrong = await doctor(url.replace(DATABASE_PASSWORD, MARK));
  expect(wrong.linesOf("database")).toEqual([
    expect.stringMatching(/^problem: Postgres rejected the login .* DATABASE_URL\.$/),
  ]);
  const missing = await doctor(url.replace(/site_\w+$/, "nowhere"));
  expect(missing.linesOf("database")).toEqual([expect.stringMatching(/^problem: The database does not exist /)]);
  const closed = await doctor(`postgres://parley:${MARK}@127.0.0.1:${findFreePort()}/parley`);
  expect(closed.linesOf("database")).toEqual([expect.stringMatching(/^problem: The database is unreachable /)]);

  using silent = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const hanging = await doctor(`postgres://parley:${MARK}@127.0.0.1:${silent.port}/parley`);
  expect(hanging.linesOf("database")).toEqual([
    expect.stringMatching(/^problem: The database did not respond within 5 s/),
  ]);
  expect(hanging.tookMs).toBeLessThan(15_000);
});

test("a wrong encoding, and a role without rights or with too many", async () => {
  await server.psql("create database latin encoding 'LATIN1' locale 'C' template template0 owner parley");
  const at = (user: string, database: string) =>
    `postgres://${user}:${DATABASE_PASSWORD}@127.0.0.1:${server.port}/${database}`;
  expect((await doctor(at("parley", "latin"))).linesOf("database")[0]).toMatch(/^problem: .* has the encoding LATIN1/);

  const migrated = await createMigrated();
  const name = new URL(migrated).pathname.slice(1);
  await server.psql(`create role reader login password '${DATABASE_PASSWORD}'`);
  const poor = await doctor(at("reader", name));
  expect(poor.linesOf("database")[0]).toMatch(/^problem: /);
  expect(poor.linesOf("database").join("\n")).toMatch(/lacks permission|no permission|may not read and write/);

  await server.psql(`create role boss superuser login password '${DATABASE_PASSWORD}'`);
  const rich = await doctor(at("boss", name));
  expect(rich.code).toBe(0);
  expect(rich.linesOf("database").slice(1)).toEqual([expect.stringMatching(/^warning: .* is a superuser/)]);

  await server.psql("alter role parley set default_transaction_read_only = on");
  const locked = await doctor(migrated);
  await server.psql("alter role parley reset default_transaction_read_only");
  expect(locked.linesOf("database")[0]).toMatch(/^problem: .* is read-only for the role "parley"/);
});

test("migrations that are pending or newer, and tables of another program", async () => {
  const url = await createMigrated();
  const sql = openDatabase({ target: { url }, poolSize: 1 });
  try {
    await sql`insert into migrations (name, checksum, version) values ('0099_later.sql', 'x', '9.8.7')`;
    expect((await doctor(url)).linesOf("database")[0]).toMatch(/^problem: .*0099_later\.sql.*Use Parley 9\.8\.7/);
    await sql`delete from migrations where name like '0099%' or name = (select max(name) from migrations where name < '0099')`;
    const pending = await doctor(url);
    expect(pending.code).toBe(0);
    expect(pending.linesOf("database")[1]).toMatch(
      /^warning: 1 migration of this version must still be applied; .*parley migrate/,
    );
  } finally {
    await sql.end({ timeout: 1 });
  }
  const foreign = await server.createDatabase();
  await server.run(foreign, "create table messages ()");
  expect((await doctor(foreign)).linesOf("database")[0]).toMatch(
    /^problem: .* has a table "messages" that doesn't belong/,
  );
});

test("too few connections, a transaction left open, and locks", async () => {
  const url = await createMigrated();
  const large = await doctor(url, { DATABASE_POOL_SIZE: "200" });
  expect(large.linesOf("database")[1]).toMatch(
    /^warning: One instance may open \d+ connections, but max_connections .* DATABASE_POOL_SIZE/,
  );

  const sql = openDatabase({ target: { url }, poolSize: 3 });
  const { promise: release, resolve } = Promise.withResolvers<void>();
  const { promise: locked, resolve: markLocked } = Promise.withResolvers<void>();
  const holding = sql.begin(async (transaction) => {
    await transaction`set local idle_in_transaction_session_timeout = 0`;
    await transaction`lock table users`;
    markLocked();
    await release;
  });
  await locked;
  const waiting = sql.begin(async (transaction) => {
    await transaction`set local lock_timeout = 0`;
    await transaction`select 1 from users`;
  });
  await Bun.sleep(3_500);
  const blocked = await doctor(url);
  resolve();
  await Promise.all([holding, waiting]);
  await sql.end({ timeout: 1 });
  expect(blocked.linesOf("database")[1]).toMatch(/^warning: 1 statement has waited for a lock/);
});

test("a pooler in each mode", async () => {
  const url = new URL(await createMigrated());
  for (const mode of ["transaction", "statement"] as const) {
    const pooler = await startPgBouncer({
      socketDirectory: server.socketDirectory,
      port: server.port,
      mode,
      users: ["parley"],
    });
    try {
      const pooled = await doctor(pooler.url(url.pathname.slice(1), "parley"));
      if (mode === "transaction")
        expect(pooled.linesOf("database")[0]).toMatch(/^ok: .*through a pooler in transaction mode\.$/);
      else expect(pooled.linesOf("database")[0]).toMatch(/^problem: .*pool_mode = transaction/);
    } finally {
      await pooler.stop();
    }
  }
});

test("Redis: a wrong password, a closed port, no response, eviction", async () => {
  const url = await server.createDatabase();
  const find = async (REDIS_URL: string) => (await doctor(url, { REDIS_URL })).linesOf("redis");
  const guarded = await startRedis({
    requirepass: `right-${MARK}`,
    maxmemory: "100mb",
    "maxmemory-policy": "allkeys-lru",
  });
  try {
    const at = (credentials: string) => guarded.url.replace("redis://", `redis://${credentials}`);
    expect(await find(at(`:wrong-${MARK}@`))).toEqual([expect.stringMatching(/^problem: .*WRONGPASS.*REDIS_URL\.$/)]);
    expect(await find(guarded.url)).toEqual([expect.stringMatching(/^problem: .*NOAUTH.*REDIS_URL\.$/)]);
    const right = await find(at(`:right-${MARK}@`));
    expect(right).toEqual([expect.stringMatching(/^ok: /), expect.stringMatching(/^warning: .*allkeys-lru/)]);
    guarded.freeze();
    expect(await find(at(`:right-${MARK}@`))).toEqual([
      expect.stringMatching(/^problem: Redis at 127\.0\.0\.1:\d+ can't be used/),
    ]);
    guarded.thaw();
  } finally {
    await guarded.stop();
  }
  expect(await find(`redis://u:${MARK}@127.0.0.1:${findFreePort()}`)).toEqual([
    expect.stringMatching(/^problem: .*ECONNREFUSED.*check that it is running/),
  ]);
});
