import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Database, isDatabaseUnavailable, openDatabase } from "../../src/db/client.ts";
import { DataDirectoryInUseError, EmbeddedPostgresError, startEmbeddedPostgres } from "../../src/db/embedded.ts";
import { createWorldWritableFolder } from "../support/database-process.ts";
import { silentLog as log } from "../support/log.ts";

// Each server start creates a cluster, which takes seconds on a busy machine.
setDefaultTimeout(60_000);

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function createDataDir(...subfolders: string[]): string {
  const folder = createWorldWritableFolder();
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, "data", ...subfolders);
}

async function startPostgres(dataDir: string): Promise<{ database: Database; stop(): Promise<void> }> {
  const postgres = await startEmbeddedPostgres({ dataDir, poolSize: 5, log });
  const database = openDatabase({ target: postgres, poolSize: 5 });
  const stop = async () => {
    await database.end({ timeout: 1 });
    await postgres.stop();
  };
  cleanups.push(stop);
  return { database, stop };
}

const readPid = (dataDir: string) =>
  Number(readFileSync(join(dataDir, "postgres/postmaster.pid"), "utf8").split("\n")[0]);

/** Waits until the process has exited, because a server still responds for a while after a signal. */
async function waitUntilExited(pid: number): Promise<void> {
  while (existsSync(`/proc/${pid}`)) await Bun.sleep(5);
}

async function waitUntilAvailable(database: Database): Promise<void> {
  for (;;) {
    try {
      await database`select 1`;
      return;
    } catch (error) {
      if (!isDatabaseUnavailable(error)) throw error;
      await Bun.sleep(10);
    }
  }
}

describe("starting the embedded Postgres", () => {
  test("creates a durable cluster with checksums, accessible only to its owner", async () => {
    const dataDir = createDataDir();
    const { database } = await startPostgres(dataDir);
    const settings = await database<{ name: string; setting: string }[]>`
      select name, setting from pg_settings
      where name in ('fsync', 'full_page_writes', 'synchronous_commit', 'data_checksums', 'autovacuum',
                     'listen_addresses', 'server_encoding', 'max_connections', 'TimeZone')`;
    expect(Object.fromEntries(settings.map(({ name, setting }) => [name, setting]))).toEqual({
      fsync: "on",
      full_page_writes: "on",
      synchronous_commit: "on",
      data_checksums: "on",
      autovacuum: "on",
      listen_addresses: "",
      server_encoding: "UTF8",
      max_connections: "25",
      TimeZone: "UTC",
    });
    expect(statSync(join(dataDir, "postgres")).mode & 0o777).toBe(0o700);
    expect(statSync(join(dataDir, "postgres.log")).mode & 0o777).toBe(0o600);
  });

  test("doesn't pass Parley's environment variables, which contain secrets, to the server", async () => {
    const dataDir = createDataDir();
    await startPostgres(dataDir);
    const names = readFileSync(`/proc/${readPid(dataDir)}/environ`, "utf8")
      .split("\0")
      .map((entry) => entry.split("=")[0]);
    expect(names.filter((name) => name && !["PATH", "LC_ALL", "TZ", "PGDATA"].includes(name))).toEqual([]);
  });

  test("keeps the rows of the previous run", async () => {
    const dataDir = createDataDir();
    const firstServer = await startPostgres(dataDir);
    await firstServer.database`create table notes (text text)`;
    await firstServer.database`insert into notes values ('Grüße')`;
    await firstServer.stop();
    expect(existsSync(join(dataDir, "postgres/postmaster.pid"))).toBe(false);
    const secondServer = await startPostgres(dataDir);
    expect(await secondServer.database`select text from notes`).toEqual([{ text: "Grüße" }] as never);
  });

  test("fails while another server uses the same folder, and works once that server has stopped", async () => {
    const dataDir = createDataDir();
    const firstServer = await startPostgres(dataDir);
    const error = await startEmbeddedPostgres({ dataDir, log }).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(DataDirectoryInUseError);
    expect((error as Error).message).toContain(`process ${process.pid}`);
    expect(await firstServer.database`select 1 as one`).toEqual([{ one: 1 }] as never);
    await firstServer.stop();
    await startPostgres(dataDir);
  });

  test("works if the path is too long for a socket and contains unusual characters", async () => {
    const dataDir = createDataDir("ö".repeat(60), "with space, comma:colon'quote", "x".repeat(120));
    const firstServer = await startPostgres(dataDir);
    await firstServer.database`create table notes (text text)`;
    await firstServer.stop();
    const { database } = await startPostgres(dataDir);
    expect(await database`select count(*) as count from notes`).toEqual([{ count: 0 }] as never);
  });

  test("fails if the cluster's path is a file, and doesn't change that file", async () => {
    const dataDir = createDataDir();
    await (await startPostgres(dataDir)).stop();
    rmSync(join(dataDir, "postgres"), { recursive: true });
    writeFileSync(join(dataDir, "postgres"), "mine");
    const error = await startEmbeddedPostgres({ dataDir, log }).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(EmbeddedPostgresError);
    expect(readFileSync(join(dataDir, "postgres"), "utf8")).toBe("mine");
  });

  test("fails if the cluster was created by a different major version", async () => {
    const dataDir = createDataDir();
    await (await startPostgres(dataDir)).stop();
    writeFileSync(join(dataDir, "postgres/PG_VERSION"), "17\n");
    expect(startEmbeddedPostgres({ dataDir, log })).rejects.toThrow(/created by PostgreSQL 17.*includes 18/);
  });

  test("fails with the server's error message if the server can't start", async () => {
    const dataDir = createDataDir();
    await (await startPostgres(dataDir)).stop();
    writeFileSync(join(dataDir, "postgres/postgresql.conf"), "no_such_setting = 1\n");
    const error = await startEmbeddedPostgres({ dataDir, log }).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(EmbeddedPostgresError);
    expect((error as Error).message).toContain("configuration file");
    writeFileSync(join(dataDir, "postgres/postgresql.conf"), "");
    await startPostgres(dataDir);
  });

  test("repairs an incomplete installation, and removes temporary folders", async () => {
    const dataDir = createDataDir();
    await (await startPostgres(dataDir)).stop();
    const installationDir = process.getuid?.() === 0 ? "/var/cache/parley" : dataDir;
    const postgresDir = readdirSync(installationDir).find((name) => name.startsWith("postgres-18"));
    const file = join(installationDir, postgresDir ?? "", "share/postgresql/errcodes.txt");
    const originalContent = readFileSync(file);
    writeFileSync(file, "");
    await startPostgres(dataDir);
    expect(readFileSync(file)).toEqual(originalContent);
    expect(readdirSync(installationDir).filter((name) => name.includes(".tmp-"))).toEqual([]);
  });
});

describe("a server that exits unexpectedly", () => {
  for (const signal of ["SIGKILL", "SIGINT"] as const)
    test(`is restarted after ${signal}, and the pool works again within seconds`, async () => {
      const dataDir = createDataDir();
      const { database } = await startPostgres(dataDir);
      await database`create table notes (text text)`;
      await database`insert into notes values ('kept')`;
      await Promise.all(Array.from({ length: 5 }, () => database`select pg_sleep(0.01)`));
      const pid = readPid(dataDir);
      process.kill(pid, signal);
      await waitUntilExited(pid);
      const startedAtMs = performance.now();
      await waitUntilAvailable(database);
      await Promise.all(Array.from({ length: 20 }, () => waitUntilAvailable(database)));
      expect(performance.now() - startedAtMs).toBeLessThan(10_000);
      expect(readPid(dataDir)).not.toBe(pid);
      expect(await database`select text from notes`).toEqual([{ text: "kept" }] as never);
    });

  test("can be stopped while it isn't running", async () => {
    const dataDir = createDataDir();
    const { stop } = await startPostgres(dataDir);
    process.kill(readPid(dataDir), "SIGKILL");
    await Bun.sleep(30);
    await stop();
    await startPostgres(dataDir);
  });
});
