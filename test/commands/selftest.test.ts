import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Report } from "../../src/commands/selftest/report.ts";
import { waitUntil } from "../support/wait-until.ts";
import { createFolder, spawnParley } from "./run-parley.ts";

// The self-test starts and kills many servers.
setDefaultTimeout(300_000);

const folder = createFolder();
afterAll(() => folder[Symbol.dispose]());

const checkNames = [
  "start",
  "delivery",
  "idempotency",
  "outsider",
  "failover",
  "kill",
  "storm",
  "resume",
  "instances",
  "backup",
  "shutdown",
];

/** Starts a self-test with its own temporary folder, so that a test can find leftover files. */
function startSelftest(name: string, args: string[], env: Record<string, string> = {}) {
  const temporaryFolder = join(folder.path, name);
  mkdirSync(temporaryFolder);
  chmodSync(folder.path, 0o755);
  const cwd = join(folder.path, `${name}-cwd`);
  mkdirSync(cwd);
  // A server that reads this file doesn't start.
  writeFileSync(join(cwd, ".env"), "PORT=nonsense\n");
  const child = spawnParley(["selftest", ...args], { cwd, env: { TMPDIR: temporaryFolder, ...env } });
  let stderr = "";
  const stderrReader = (async () => {
    for await (const chunk of child.stderr.pipeThrough(new TextDecoderStream())) stderr += chunk;
  })();

  return {
    temporaryFolder,
    child,
    getStderr: () => stderr,

    async waitForError(text: string): Promise<void> {
      while (!stderr.includes(text)) {
        if (child.exitCode !== null) throw new Error(`The self-test exited: ${stderr}`);
        await Bun.sleep(20);
      }
    },

    async waitForExit() {
      const [stdout, code] = await Promise.all([new Response(child.stdout).text(), child.exited, stderrReader]);
      return { stdout, code };
    },

    listFiles: () => readdirSync(temporaryFolder, { recursive: true }),
  };
}

/** Lists the processes whose command line or environment contains a path, including Postgres' child processes. */
function listProcesses(path: string): string[] {
  return readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) return false;
    return ["cmdline", "environ"].some((file) => {
      try {
        return readFileSync(`/proc/${pid}/${file}`, "utf8").includes(path);
      } catch {
        return false;
      }
    });
  });
}

test("all checks pass despite unrelated settings in the environment, and no files or processes remain", async () => {
  const unrelatedSettings = {
    APP_ENV: "production",
    DATABASE_URL: "postgres://nobody@127.0.0.1:1/none",
    OPENAI_API_KEY: "sk-secret",
    AI_MODELS: "openai/gpt-5.2",
    PORT: "1",
    HTTP_PROXY: "http://127.0.0.1:1",
    http_proxy: "http://127.0.0.1:1",
    REGISTRATION: "closed",
  };
  const selftest = startSelftest("good", ["--json"], unrelatedSettings);
  const { stdout, code } = await selftest.waitForExit();
  const report = JSON.parse(stdout) as Report;
  expect(report.checks.flatMap(({ problems }) => problems)).toEqual([]);
  expect(code).toBe(0);
  expect(report).toMatchObject({ passed: true, logs: null });
  expect(report.checks.map(({ name, status }) => `${name} ${status}`)).toEqual(
    checkNames.map((name) => `${name} passed`),
  );
  // The load was high enough for meaningful checks.
  const measured = Object.fromEntries(report.checks.map(({ name, measured }) => [name, measured]));
  expect(measured.start).toMatchObject({ fsync: "on", full_page_writes: "on", synchronous_commit: "on" });
  expect(measured.delivery).toMatchObject({ messages: 1_000 });
  expect(measured.kill?.acknowledged).toBeGreaterThan(50);
  expect(measured.kill?.in_flight).toBeGreaterThan(0);
  expect(measured.storm?.recovered_events).toBeGreaterThanOrEqual(300 * 100);
  expect(measured.backup?.acknowledged_during).toBeGreaterThan(0);
  expect(measured.shutdown).toMatchObject({ exit_code: 0 });
  expect(stdout).not.toContain("sk-secret");
  expect(selftest.listFiles()).toEqual([]);
  expect(listProcesses(selftest.temporaryFolder)).toEqual([]);
});

/** Creates a PATH with a replacement for `setpriv` that runs a script before it starts the program. */
function createPathWithSetpriv(name: string, setpriv: string): string {
  const path = join(folder.path, `${name}-bin`);
  mkdirSync(path);
  writeFileSync(
    join(path, "setpriv"),
    `#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\n${setpriv}\nexec "$@"\n`,
  );
  chmodSync(join(path, "setpriv"), 0o755);
  return `${path}:${process.env.PATH ?? ""}`;
}

test("failed checks are reported with details and logs, and the exit code is 1", async () => {
  // The self-test's servers never retry a busy model. After their first start, they use an empty database, as if the disk
  // had lost its data.
  const marker = join(folder.path, "started");
  const PATH = createPathWithSetpriv(
    "broken",
    `export AI_MAX_RETRIES=0
if [ "$2" = serve ]; then [ -e ${marker} ] && export DATA_DIR="$DATA_DIR-empty"; touch ${marker}; fi`,
  );
  const selftest = startSelftest("broken", [], { PATH });
  const { stdout, code } = await selftest.waitForExit();
  expect(code).toBe(1);
  expect(stdout).toMatch(/^PASS {4}outsider /m);
  expect(stdout).toMatch(/^FAIL {4}failover /m);
  expect(stdout).toMatch(
    /^ +- 429, retry after 1 s: expected an answer from flaky\/busy-once, but got steady\/short$/m,
  );
  expect(stdout).toMatch(/^FAIL {4}kill /m);
  expect(stdout).toMatch(/^NOT RUN storm /m);
  expect(stdout).toContain("4 of 11 claims hold");
  const [, logs = ""] = /The server logs are in (.*)\.$/m.exec(stdout) ?? [];
  expect(readFileSync(join(logs, "01-serve.log"), "utf8")).toContain("listening");
  // Only the logs remain.
  expect(readdirSync(join(logs, ".."))).toEqual(["logs"]);
  expect(listProcesses(selftest.temporaryFolder)).toEqual([]);
});

test("a server that doesn't start is reported, and --keep keeps the folder", async () => {
  const PATH = createPathWithSetpriv("failing", `[ "$2" = serve ] && { echo "No power."; exit 3; }`);
  const selftest = startSelftest("failing", ["--json", "--keep"], { PATH });
  const { stdout, code } = await selftest.waitForExit();
  const report = JSON.parse(stdout) as Report;
  expect(code).toBe(1);
  expect(report.passed).toBe(false);
  const statuses: string[] = report.checks.map(({ status }) => status);
  expect(statuses).toEqual(["failed", ...checkNames.slice(1).map(() => "not_run")]);
  expect(report.checks[0]?.problems).toEqual(["expected a running server, but it exited (3): No power."]);
  expect(readdirSync(join(report.logs ?? "", "..")).sort()).toEqual(["empty", "logs"]);
});

test.each([
  ["SIGINT", "PASS failover", 300],
  ["SIGTERM", "PASS resume", 100],
  ["SIGTERM", "PASS instances", 300],
  ["SIGHUP", "PASS start", 0],
] as const)("%s after %p stops all processes and removes the folder", async (signal, progressLine, delayMs) => {
  const selftest = startSelftest(`${signal}-${progressLine.slice(5)}`, []);
  await selftest.waitForError(progressLine);
  await Bun.sleep(delayMs);
  expect(listProcesses(selftest.temporaryFolder).length).toBeGreaterThan(1);
  selftest.child.kill(signal);
  const { stdout, code } = await selftest.waitForExit();
  expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
  expect(selftest.getStderr()).toEndWith(
    "The self-test was interrupted; its processes were stopped and its folder was removed.\n",
  );
  expect(selftest.listFiles()).toEqual([]);
  expect(listProcesses(selftest.temporaryFolder)).toEqual([]);
});

test("if the self-test is killed, its servers and their Postgres exit", async () => {
  const selftest = startSelftest("killed", []);
  await selftest.waitForError("PASS start");
  expect(listProcesses(selftest.temporaryFolder).length).toBeGreaterThan(1);
  selftest.child.kill("SIGKILL");
  await selftest.child.exited;
  await waitUntil(() => listProcesses(selftest.temporaryFolder).length === 0);
});

test("an unknown option is a usage error, and no server is started", async () => {
  const selftest = startSelftest("usage", ["--fast"]);
  const { stdout, code } = await selftest.waitForExit();
  expect({ stdout, code }).toEqual({ stdout: "", code: 2 });
  expect(selftest.getStderr()).toBe(
    "`parley selftest` has no option --fast; `parley selftest --help` shows the usage.\n",
  );
  expect(selftest.listFiles()).toEqual([]);
});
