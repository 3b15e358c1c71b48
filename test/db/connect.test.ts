import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import pino from "pino";
import { ConfigError, loadConfig } from "../../src/config.ts";
import { openDatabase } from "../../src/db/client.ts";
import { connectDatabase, type DatabaseConnection, waitForDatabase } from "../../src/db/connect.ts";
import { DataDirectoryInUseError, startEmbeddedPostgres } from "../../src/db/embedded.ts";
import { createWorldWritableFolder } from "../support/database-process.ts";
import { silentLog } from "../support/log.ts";

setDefaultTimeout(60_000);

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function createConfig(environment: Record<string, string> = {}) {
  const folder = createWorldWritableFolder();
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  const variables = { DATA_DIR: join(folder, "data"), DATABASE_POOL_SIZE: "3", ...environment };
  return loadConfig(variables, () => "");
}

async function connectWithCleanup(...options: Parameters<typeof connectDatabase>): Promise<DatabaseConnection> {
  const connection = await connectDatabase(...options);
  cleanups.push(connection.close);
  return connection;
}

/** Creates a log and an array of its lines. */
function captureLog() {
  const lines: string[] = [];
  return { lines, log: pino({ level: "trace" }, { write: (line: string) => void lines.push(line) }) };
}

describe("connectDatabase", () => {
  test("starts the embedded Postgres if DATABASE_URL isn't set, and `close` stops it and unlocks DATA_DIR", async () => {
    const config = createConfig();
    const firstConnection = await connectWithCleanup(config, silentLog);
    expect(firstConnection.kind).toBe("embedded");
    expect(await firstConnection.database`select current_database() as name, current_user as role`).toEqual([
      { name: "parley", role: "parley_app" },
    ] as never);
    await Promise.all([firstConnection.close(), firstConnection.close()]);
    const secondConnection = await connectWithCleanup(config, silentLog);
    expect(await secondConnection.database`select 1 as one`).toEqual([{ one: 1 }] as never);
  });

  test("connects to the server in DATABASE_URL, which keeps running after `close`", async () => {
    const config = createConfig();
    const { socketDirectory, user, stop } = await startEmbeddedPostgres({ dataDir: config.DATA_DIR, log: silentLog });
    cleanups.push(stop);
    // The embedded server listens only on a Unix socket, so a relay makes it available on a TCP port.
    const relay = Bun.listen<{ server: ReturnType<typeof connectSocket> }>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open(client) {
          client.data = { server: connectSocket(join(socketDirectory, ".s.PGSQL.5432"), client) };
        },
        async data(client, bytes) {
          (await client.data.server).write(bytes);
        },
        async close(client) {
          (await client.data.server).end();
        },
      },
    });
    cleanups.push(() => relay.stop(true));
    const url = `postgres://${user}:unused@127.0.0.1:${relay.port}/parley`;
    const connection = await connectWithCleanup(createConfig({ DATABASE_URL: url }), silentLog);
    expect(connection.kind).toBe("server");
    expect(await connection.database`select 1 as one`).toEqual([{ one: 1 }] as never);
    await connection.close();
    const directDatabase = openDatabase({ target: { socketDirectory, user }, poolSize: 1 });
    expect(await directDatabase`select 1 as one`).toEqual([{ one: 1 }] as never);
    await directDatabase.end();
  });

  test("reports a malformed DATABASE_URL without its password", async () => {
    const config = createConfig({ DATABASE_URL: "postgres://parley:se/cret@db:port/parley" });
    const error = await connectDatabase(config, silentLog).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(ConfigError);
    expect(Bun.inspect(error)).not.toContain("cret");
    expect((error as Error).message).toContain("DATABASE_URL");
  });

  test("fails while another Parley process uses DATA_DIR, unless `canUseRunningPostgres` is set", async () => {
    const config = createConfig();
    const runningConnection = await connectWithCleanup(config, silentLog);
    await runningConnection.database`create table notes (text text)`;
    expect(connectDatabase(config, silentLog)).rejects.toBeInstanceOf(DataDirectoryInUseError);
    const commandConnection = await connectWithCleanup(config, silentLog, { canUseRunningPostgres: true });
    await commandConnection.database`insert into notes values ('from the command')`;
    await commandConnection.close();
    expect(await runningConnection.database`select text from notes`).toEqual([{ text: "from the command" }] as never);
  });

  test("closes without waiting for a slow query", async () => {
    const connection = await connectWithCleanup(createConfig(), silentLog);
    const query = connection.database`select pg_sleep(60)`.catch((error: Error & { code?: string }) => error.code);
    await Bun.sleep(50);
    const startedAtMs = performance.now();
    await connection.close();
    expect(performance.now() - startedAtMs).toBeLessThan(8_000);
    expect(await query).toBe("CONNECTION_DESTROYED");
  });
});

describe("waitForDatabase", () => {
  test("retries until the server has started, and logs each failed attempt", async () => {
    const { DATA_DIR } = createConfig();
    mkdirSync(DATA_DIR);
    const target = { socketDirectory: join(DATA_DIR, "postgres"), user: "parley" };
    const database = openDatabase({ target, poolSize: 2 });
    const { lines, log } = captureLog();
    const waitingForDatabase = waitForDatabase(database, log, new AbortController().signal);
    while (lines.length < 2) await Bun.sleep(10);
    expect(JSON.parse(lines[0] ?? "")).toMatchObject({
      msg: "the database is not responding; retrying",
      reason: expect.stringContaining("ENOENT"),
      retry_in_ms: 250,
    });
    expect(JSON.parse(lines[1] ?? "")).toMatchObject({ retry_in_ms: 500 });
    const { stop } = await startEmbeddedPostgres({ dataDir: DATA_DIR, log: silentLog });
    cleanups.push(stop);
    await waitingForDatabase;
    await database.end({ timeout: 1 });
  });

  test("rejects when it is aborted, and never logs the password", async () => {
    const database = openDatabase({ target: { url: "postgres://parley:se-cret@127.0.0.1:1/parley" }, poolSize: 1 });
    const { lines, log } = captureLog();
    const controller = new AbortController();
    const waitingForDatabase = waitForDatabase(database, log, controller.signal).catch((error: unknown) => error);
    while (lines.length < 2) await Bun.sleep(10);
    const startedAtMs = performance.now();
    controller.abort(new Error("shutting down"));
    expect(await waitingForDatabase).toEqual(new Error("shutting down"));
    expect(performance.now() - startedAtMs).toBeLessThan(200);
    expect(lines[0]).toContain("ECONNREFUSED");
    expect(lines.join()).not.toContain("se-cret");
    await database.end({ timeout: 1 });
  });
});

async function connectSocket(path: string, client: { write(bytes: Uint8Array): unknown; end(): unknown }) {
  return Bun.connect({
    unix: path,
    socket: { data: (_server, bytes) => void client.write(bytes), close: () => void client.end() },
  });
}
