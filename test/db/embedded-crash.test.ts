import { afterAll, afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openDatabase } from "../../src/db/client.ts";
import { createLauncher, findOwner } from "../../src/db/embedded/launcher.ts";
import { unpackPostgres } from "../../src/db/embedded/payload.ts";
import { startEmbeddedPostgres } from "../../src/db/embedded.ts";
import { silentLog as log } from "../support/log.ts";
import {
  createPublicFolder,
  removeSmallParley,
  type SmallParley,
  type SmallParleyOptions,
  startSmallParley,
} from "../support/small-parley.ts";

const namespace = ["--pid", "--fork", "--mount-proc", "--kill-child"];
const isRoot = process.getuid?.() === 0;
// Each server start creates a cluster, which takes seconds on a busy machine.
setDefaultTimeout(60_000);

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const step of cleanups.splice(0).reverse()) await step();
});

afterAll(removeSmallParley);

function createFolder(): string {
  const folder = createPublicFolder();
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function startChild(mode: string, dataDir: string, options: SmallParleyOptions = {}): Promise<SmallParley> {
  const child = await startSmallParley(mode, dataDir, options);
  cleanups.push(async () => {
    child.kill("SIGTERM");
    await child.exited;
  });
  return child;
}

async function listRows(dataDir: string, options: SmallParleyOptions = {}): Promise<number[]> {
  const child = await startChild("count", dataDir, options);
  expect(await child.exited).toBe(0);
  expect(child.lines[0]).toBe("ready");
  return (child.lines[1] ?? "").split(",").filter(Boolean).map(Number);
}

const readPid = (dataDir: string) =>
  Number(readFileSync(join(dataDir, "postgres/postmaster.pid"), "utf8").split("\n")[0]);

/** Null if the process is gone, or a zombie. */
function readState(pid: number): string | null {
  try {
    const state = /^State:\s+(\w)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? null;
    return state === "Z" ? null : state;
  } catch {
    return null;
  }
}

describe("a killed Parley", () => {
  for (const asNobody of [false, true])
    test(`during inserts loses no acknowledged row ${asNobody ? "(ordinary user)" : ""}`, async () => {
      const dataDir = join(createFolder(), "data");
      const acknowledged: number[] = [];
      for (let round = 0; round < 3; round++) {
        const child = await startChild("insert", dataDir, { asNobody });
        await child.printed(50 + round * 37);
        child.kill("SIGKILL");
        await child.exited;
        expect(child.lines[0]).toBe("ready");
        acknowledged.push(...child.lines.slice(1).map(Number));
      }
      expect(acknowledged.length).toBeGreaterThan(200);
      const stored = new Set(await listRows(dataDir, { asNobody }));
      expect(acknowledged.filter((number) => !stored.has(number))).toEqual([]);
    });

  test("takes its Postgres down with it", async () => {
    const dataDir = join(createFolder(), "data");
    const child = await startChild("serve", dataDir);
    await child.printed(1);
    const pid = readPid(dataDir);
    expect(readState(pid)).not.toBeNull();
    child.kill("SIGKILL");
    await child.exited;
    for (let tries = 0; readState(pid) !== null && tries < 200; tries++) await Bun.sleep(10);
    expect(readState(pid)).toBeNull();
  });

  test("during its first start leaves nothing half-initialized", async () => {
    const dataDir = join(createFolder(), "data");
    const child = await startChild("serve", dataDir);
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
    const home = await unpackPostgres(isRoot ? "/var/cache/parley" : dataDir);
    const launch = createLauncher(findOwner(clusterDir), clusterDir, log);
    const settings = ["-c", "listen_addresses=", "-c", "unix_socket_directories=."];
    const leftover = launch(join(home, "bin/postgres"), ["-D", clusterDir, ...settings], "pipe");
    const ended = new Promise<number | null>((resolve) => leftover.once("exit", (code) => resolve(code)));
    cleanups.push(() => void leftover.kill("SIGQUIT"));
    while (!readdirSync(clusterDir).includes("postmaster.pid")) await Bun.sleep(5);
    expect(await listRows(dataDir)).toEqual([]);
    expect(await ended).toBe(0);
  });

  /** Kills a Parley with its Postgres. @returns the folder, whose `postmaster.pid` still says "ready". */
  async function killBoth(): Promise<string> {
    const dataDir = join(createFolder(), "data");
    const child = await startChild("insert", dataDir);
    await child.printed(5);
    process.kill(child.pid, "SIGSTOP");
    const files = statusFiles.map((name) => join(dataDir, "postgres", name));
    const texts = files.map((path) => readFileSync(path, "utf8"));
    const pid = readPid(dataDir);
    process.kill(pid, "SIGKILL");
    child.kill("SIGKILL");
    await child.exited;
    while (readState(pid) !== null) await Bun.sleep(5);
    files.forEach((path, index) => void writeFileSync(path, texts[index] ?? ""));
    expect(texts[0]).toContain("ready");
    return dataDir;
  }

  test("that still has processes delays the next start until they have exited", async () => {
    const dataDir = join(createFolder(), "data");
    const child = await startChild("serve", dataDir);
    await child.printed(1);
    const pid = readPid(dataDir);
    const [backend] = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").map(Number);
    if (!backend) throw new Error("Postgres has no child process.");
    process.kill(backend, "SIGSTOP");
    cleanups.push(() => {
      if (readState(backend) !== null) process.kill(backend, "SIGKILL");
    });
    child.kill("SIGKILL");
    process.kill(pid, "SIGKILL");
    await child.exited;
    const rows = listRows(dataDir);
    const logFile = join(dataDir, "postgres.log");
    while (!readFileSync(logFile, "utf8").includes("pre-existing shared memory block")) await Bun.sleep(20);
    process.kill(backend, "SIGKILL");
    expect(await rows).toEqual([]);
  });

  const statusFiles = ["postmaster.pid", ".s.PGSQL.5432.lock"];
  const setPid = (dataDir: string, pid: number) => {
    for (const name of statusFiles) {
      const path = join(dataDir, "postgres", name);
      writeFileSync(path, readFileSync(path, "utf8").replace(/^\d+/, String(pid)));
    }
  };

  test("is ignored if its PID was reused by an unrelated process", async () => {
    const dataDir = await killBoth();
    // The process runs as the server's user, so that Postgres itself would consider it alive.
    const unrelated = createLauncher(findOwner(join(dataDir, "postgres")), dataDir, log)("sleep", ["60"], "pipe");
    cleanups.push(() => void unrelated.kill("SIGKILL"));
    setPid(dataDir, unrelated.pid ?? 0);
    expect((await listRows(dataDir)).length).toBeGreaterThan(3);
    expect(readState(unrelated.pid ?? 0)).not.toBeNull();
  });

  test("is ignored if its PID was reused by Parley itself", async () => {
    const dataDir = await killBoth();
    setPid(dataDir, process.pid);
    const postgres = await startEmbeddedPostgres({ dataDir, log });
    cleanups.push(postgres.stop);
    const database = openDatabase({ target: postgres, poolSize: 1 });
    const rows = await database`select number from entries`;
    await database.end();
    expect(rows.length).toBeGreaterThan(3);
  });

  test("is ignored if a process with its PID looks like a Postgres on this folder", async () => {
    const dataDir = await killBoth();
    const clusterDir = join(dataDir, "postgres");
    const unrelated = Bun.spawn(["/bin/sh", "-c", "read line", clusterDir], {
      argv0: "/usr/bin/postgres",
      cwd: clusterDir,
      stdin: "pipe",
    });
    cleanups.push(() => unrelated.kill("SIGKILL"));
    const path = join(clusterDir, "postmaster.pid");
    setPid(dataDir, unrelated.pid);
    const lines = readFileSync(path, "utf8").split("\n");
    lines[2] = String(Number(lines[2]) - 3600);
    writeFileSync(path, lines.join("\n"));
    expect((await listRows(dataDir)).length).toBeGreaterThan(3);
    expect(readState(unrelated.pid ?? 0)).not.toBeNull();
  });

  test("may have been killed while it wrote its PID file", async () => {
    const dataDir = await killBoth();
    writeFileSync(join(dataDir, "postgres/postmaster.pid"), "");
    expect((await listRows(dataDir)).length).toBeGreaterThan(3);
  });
});

/** Why this machine can't create a PID namespace; null if it can. */
const whyNoNamespace = (() => {
  const { exitCode, stderr } = Bun.spawnSync(["unshare", ...namespace, "true"], { stderr: "pipe" });
  return exitCode === 0 ? null : `unshare does not work: ${stderr.toString().trim()}`;
})();

describe(`a PID namespace, as in a container${whyNoNamespace ? ` (skipped, ${whyNoNamespace})` : ""}`, () => {
  test.skipIf(whyNoNamespace !== null)("restarts after each kill, although PIDs repeat", async () => {
    const dataDir = join(createFolder(), "data");
    const acknowledged: number[] = [];
    const pids = new Set<number>();
    for (let round = 0; round < 6; round++) {
      const child = await startChild("insert", dataDir, { wrapper: ["unshare", ...namespace] });
      await child.printed(20);
      pids.add(readPid(dataDir));
      child.kill("SIGKILL");
      await child.exited;
      expect(child.lines[0]).toBe("ready");
      acknowledged.push(...child.lines.slice(1).map(Number));
    }
    const stored = new Set(await listRows(dataDir));
    expect(acknowledged.filter((number) => !stored.has(number))).toEqual([]);
    expect(pids.size).toBeLessThan(6);
  });
});

describe("the location of DATA_DIR", () => {
  test("may be below a folder closed to other users", async () => {
    const closed = createFolder();
    chmodSync(closed, 0o700);
    const dataDir = join(closed, "data");
    const child = await startChild("insert", dataDir);
    await child.printed(5);
    child.kill("SIGTERM");
    expect(await child.exited).toBe(0);
    expect((await listRows(dataDir)).length).toBeGreaterThan(3);
  });

  test("may get another owner between starts: root then runs Postgres as that user", async () => {
    const folder = createFolder();
    const dataDir = join(folder, "data");
    await listRows(dataDir, { asNobody: true });
    const postgres = await startEmbeddedPostgres({ dataDir, log });
    cleanups.push(postgres.stop);
    const database = openDatabase({ target: postgres, poolSize: 1 });
    await database`insert into entries (text) values ('by the other')`;
    await database.end();
    await postgres.stop();
    expect(await listRows(dataDir, { asNobody: true })).toEqual([1]);
  });

  test("without write permission is rejected with a clear error", async () => {
    const folder = createFolder();
    mkdirSync(join(folder, "data"));
    chmodSync(join(folder, "data"), 0o500);
    const child = await startChild("serve", join(folder, "data"), { asNobody: true });
    expect(await child.exited).toBe(1);
    expect(child.lines.join()).toMatch(/User \d+ can't use DATA_DIR .*, which belongs to user 0; run `chown -R/);
  });
});
