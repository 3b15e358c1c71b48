import { afterAll, afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openDatabase } from "../../src/db/client.ts";
import { createLauncher, findOwner } from "../../src/db/embedded/launcher.ts";
import { unpackPostgres } from "../../src/db/embedded/payload.ts";
import { startEmbeddedPostgres } from "../../src/db/embedded.ts";
import {
  createWorldWritableFolder,
  type DatabaseProcess,
  type DatabaseProcessOptions,
  removeDatabaseProcessExecutable,
  startDatabaseProcess,
} from "../support/database-process.ts";
import { silentLog as log } from "../support/log.ts";

const namespaceOptions = ["--pid", "--fork", "--mount-proc", "--kill-child"];
const isRoot = process.getuid?.() === 0;
// Each server start creates a cluster, which takes seconds on a busy machine.
setDefaultTimeout(60_000);

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

afterAll(removeDatabaseProcessExecutable);

function createFolder(): string {
  const folder = createWorldWritableFolder();
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function startProcess(
  mode: string,
  dataDir: string,
  options: DatabaseProcessOptions = {},
): Promise<DatabaseProcess> {
  const child = await startDatabaseProcess(mode, dataDir, options);
  cleanups.push(async () => {
    child.kill("SIGTERM");
    await child.exited;
  });
  return child;
}

async function listRows(dataDir: string, options: DatabaseProcessOptions = {}): Promise<number[]> {
  const child = await startProcess("list", dataDir, options);
  expect(await child.exited).toBe(0);
  expect(child.lines[0]).toBe("ready");
  return (child.lines[1] ?? "").split(",").filter(Boolean).map(Number);
}

const readPid = (dataDir: string) =>
  Number(readFileSync(join(dataDir, "postgres/postmaster.pid"), "utf8").split("\n")[0]);

/** Returns a process's state letter, or null if the process has exited or is a zombie. */
function getProcessState(pid: number): string | null {
  try {
    const state = /^State:\s+(\w)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? null;
    return state === "Z" ? null : state;
  } catch {
    return null;
  }
}

describe("killing Parley", () => {
  for (const asNobody of [false, true])
    test(`loses no acknowledged row${asNobody ? " if it is run by an ordinary user" : ""}`, async () => {
      const dataDir = join(createFolder(), "data");
      const acknowledgedNumbers: number[] = [];
      for (let round = 0; round < 3; round++) {
        const child = await startProcess("insert", dataDir, { asNobody });
        await child.waitForLines(50 + round * 37);
        child.kill("SIGKILL");
        await child.exited;
        expect(child.lines[0]).toBe("ready");
        acknowledgedNumbers.push(...child.lines.slice(1).map(Number));
      }
      expect(acknowledgedNumbers.length).toBeGreaterThan(200);
      const storedRows = new Set(await listRows(dataDir, { asNobody }));
      expect(acknowledgedNumbers.filter((number) => !storedRows.has(number))).toEqual([]);
    });

  test("also stops its Postgres", async () => {
    const dataDir = join(createFolder(), "data");
    const child = await startProcess("serve", dataDir);
    await child.waitForLines(1);
    const pid = readPid(dataDir);
    expect(getProcessState(pid)).not.toBeNull();
    child.kill("SIGKILL");
    await child.exited;
    for (let tries = 0; getProcessState(pid) !== null && tries < 200; tries++) await Bun.sleep(10);
    expect(getProcessState(pid)).toBeNull();
  });

  test("leaves no half-initialized cluster, even during the first start", async () => {
    const dataDir = join(createFolder(), "data");
    const child = await startProcess("serve", dataDir);
    const isInitializing = () => {
      try {
        return readdirSync(dataDir).some((name) => name.startsWith("postgres-new-"));
      } catch {
        return false;
      }
    };
    while (!isInitializing()) await Bun.sleep(1);
    await Bun.sleep(100);
    child.kill("SIGKILL");
    await child.exited;
    expect(child.lines).toEqual([]);
    expect(await listRows(dataDir)).toEqual([]);
    expect(readdirSync(dataDir).filter((name) => name.startsWith("postgres-new-"))).toEqual([]);
  });
});

describe("a leftover Postgres", () => {
  test("is stopped before the next start", async () => {
    const dataDir = join(createFolder(), "data");
    await listRows(dataDir);
    const clusterDir = join(dataDir, "postgres");
    const postgresDir = await unpackPostgres(isRoot ? "/var/cache/parley" : dataDir);
    const launch = createLauncher(findOwner(clusterDir), clusterDir, log);
    const settings = ["-c", "listen_addresses=", "-c", "unix_socket_directories=."];
    const leftoverProcess = launch(join(postgresDir, "bin/postgres"), ["-D", clusterDir, ...settings], "pipe");
    const exitPromise = new Promise<number | null>((resolve) => leftoverProcess.once("exit", (code) => resolve(code)));
    cleanups.push(() => void leftoverProcess.kill("SIGQUIT"));
    while (!readdirSync(clusterDir).includes("postmaster.pid")) await Bun.sleep(5);
    expect(await listRows(dataDir)).toEqual([]);
    expect(await exitPromise).toBe(0);
  });

  /** Kills Parley and its Postgres. @returns the data directory, whose `postmaster.pid` still contains "ready". */
  async function killParleyAndPostgres(): Promise<string> {
    const dataDir = join(createFolder(), "data");
    const child = await startProcess("insert", dataDir);
    await child.waitForLines(5);
    process.kill(child.pid, "SIGSTOP");
    const files = statusFiles.map((name) => join(dataDir, "postgres", name));
    const contents = files.map((path) => readFileSync(path, "utf8"));
    const pid = readPid(dataDir);
    process.kill(pid, "SIGKILL");
    child.kill("SIGKILL");
    await child.exited;
    while (getProcessState(pid) !== null) await Bun.sleep(5);
    files.forEach((path, index) => void writeFileSync(path, contents[index] ?? ""));
    expect(contents[0]).toContain("ready");
    return dataDir;
  }

  test("delays the next start until its processes have exited", async () => {
    const dataDir = join(createFolder(), "data");
    const child = await startProcess("serve", dataDir);
    await child.waitForLines(1);
    const pid = readPid(dataDir);
    const [backendPid] = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").map(Number);
    if (!backendPid) throw new Error("Postgres has no child process.");
    process.kill(backendPid, "SIGSTOP");
    cleanups.push(() => {
      if (getProcessState(backendPid) !== null) process.kill(backendPid, "SIGKILL");
    });
    child.kill("SIGKILL");
    process.kill(pid, "SIGKILL");
    await child.exited;
    const rows = listRows(dataDir);
    const logFile = join(dataDir, "postgres.log");
    while (!readFileSync(logFile, "utf8").includes("pre-existing shared memory block")) await Bun.sleep(20);
    process.kill(backendPid, "SIGKILL");
    expect(await rows).toEqual([]);
  });

  const statusFiles = ["postmaster.pid", ".s.PGSQL.5432.lock"];
  const setRecordedPid = (dataDir: string, pid: number) => {
    for (const name of statusFiles) {
      const path = join(dataDir, "postgres", name);
      writeFileSync(path, readFileSync(path, "utf8").replace(/^\d+/, String(pid)));
    }
  };

  test("is ignored if its PID was reused by an unrelated process", async () => {
    const dataDir = await killParleyAndPostgres();
    // The process runs as the server's user, so that Postgres itself would consider it alive.
    const unrelatedProcess = createLauncher(findOwner(join(dataDir, "postgres")), dataDir, log)(
      "sleep",
      ["60"],
      "pipe",
    );
    cleanups.push(() => void unrelatedProcess.kill("SIGKILL"));
    setRecordedPid(dataDir, unrelatedProcess.pid ?? 0);
    expect((await listRows(dataDir)).length).toBeGreaterThan(3);
    expect(getProcessState(unrelatedProcess.pid ?? 0)).not.toBeNull();
  });

  test("is ignored if its PID was reused by Parley itself", async () => {
    const dataDir = await killParleyAndPostgres();
    setRecordedPid(dataDir, process.pid);
    const postgres = await startEmbeddedPostgres({ dataDir, log });
    cleanups.push(postgres.stop);
    const database = openDatabase({ target: postgres, poolSize: 1 });
    const rows = await database`select number from entries`;
    await database.end();
    expect(rows.length).toBeGreaterThan(3);
  });

  test("is ignored if an unrelated process with its PID looks like a Postgres server in the same folder", async () => {
    const dataDir = await killParleyAndPostgres();
    const clusterDir = join(dataDir, "postgres");
    const unrelatedProcess = Bun.spawn(["/bin/sh", "-c", "read line", clusterDir], {
      argv0: "/usr/bin/postgres",
      cwd: clusterDir,
      stdin: "pipe",
    });
    cleanups.push(() => unrelatedProcess.kill("SIGKILL"));
    const path = join(clusterDir, "postmaster.pid");
    setRecordedPid(dataDir, unrelatedProcess.pid);
    const lines = readFileSync(path, "utf8").split("\n");
    lines[2] = String(Number(lines[2]) - 3600);
    writeFileSync(path, lines.join("\n"));
    expect((await listRows(dataDir)).length).toBeGreaterThan(3);
    expect(getProcessState(unrelatedProcess.pid ?? 0)).not.toBeNull();
  });

  test("doesn't prevent the next start if its PID file is empty", async () => {
    const dataDir = await killParleyAndPostgres();
    writeFileSync(join(dataDir, "postgres/postmaster.pid"), "");
    expect((await listRows(dataDir)).length).toBeGreaterThan(3);
  });
});

/** The reason why this machine can't create a PID namespace, or null if it can. */
const namespaceError = (() => {
  const { exitCode, stderr } = Bun.spawnSync(["unshare", ...namespaceOptions, "true"], { stderr: "pipe" });
  return exitCode === 0 ? null : `unshare does not work: ${stderr.toString().trim()}`;
})();

describe(`Parley in a PID namespace, as in a container${namespaceError ? ` (skipped, ${namespaceError})` : ""}`, () => {
  test.skipIf(namespaceError !== null)("can be restarted after each kill, even if PIDs are reused", async () => {
    const dataDir = join(createFolder(), "data");
    const acknowledgedNumbers: number[] = [];
    const pids = new Set<number>();
    for (let round = 0; round < 6; round++) {
      const child = await startProcess("insert", dataDir, { wrapper: ["unshare", ...namespaceOptions] });
      await child.waitForLines(20);
      pids.add(readPid(dataDir));
      child.kill("SIGKILL");
      await child.exited;
      expect(child.lines[0]).toBe("ready");
      acknowledgedNumbers.push(...child.lines.slice(1).map(Number));
    }
    const storedRows = new Set(await listRows(dataDir));
    expect(acknowledgedNumbers.filter((number) => !storedRows.has(number))).toEqual([]);
    expect(pids.size).toBeLessThan(6);
  });
});

describe("DATA_DIR", () => {
  test("can be inside a folder that other users can't access", async () => {
    const privateFolder = createFolder();
    chmodSync(privateFolder, 0o700);
    const dataDir = join(privateFolder, "data");
    const child = await startProcess("insert", dataDir);
    await child.waitForLines(5);
    child.kill("SIGTERM");
    expect(await child.exited).toBe(0);
    expect((await listRows(dataDir)).length).toBeGreaterThan(3);
  });

  test("can belong to a different user, and if root starts Parley, Postgres runs as that user", async () => {
    const folder = createFolder();
    const dataDir = join(folder, "data");
    await listRows(dataDir, { asNobody: true });
    const postgres = await startEmbeddedPostgres({ dataDir, log });
    cleanups.push(postgres.stop);
    const database = openDatabase({ target: postgres, poolSize: 1 });
    await database`insert into entries (text) values ('started by root')`;
    await database.end();
    await postgres.stop();
    expect(await listRows(dataDir, { asNobody: true })).toEqual([1]);
  });

  test("is rejected with a clear error if Parley can't write to it", async () => {
    const folder = createFolder();
    mkdirSync(join(folder, "data"));
    chmodSync(join(folder, "data"), 0o500);
    const child = await startProcess("serve", join(folder, "data"), { asNobody: true });
    expect(await child.exited).toBe(1);
    expect(child.lines.join()).toMatch(/User \d+ can't use DATA_DIR .*, which belongs to user 0; run `chown -R/);
  });
});
