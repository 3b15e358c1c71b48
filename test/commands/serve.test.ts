import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createFolder, findFreePort, runParley, spawnParley, waitForStatus } from "./run-parley.ts";

// Each test starts several processes.
const TIMEOUT_MS = 30_000;
setDefaultTimeout(TIMEOUT_MS);

type Child = ReturnType<typeof spawnParley>;

const children: Child[] = [];
const folders: ReturnType<typeof createFolder>[] = [];

/** Starts `parley serve`, by default in an empty folder. The process and the folder are removed after the test. */
function startParley(env: Record<string, string> = {}, cwd = createTestFolder()) {
  const port = findFreePort();
  const child = spawnParley([], { cwd, env: { PORT: String(port), HOST: "127.0.0.1", ...env } });
  children.push(child);
  const url = `http://127.0.0.1:${port}`;
  const logText = new Response(child.stdout).text();
  const stop = async () => {
    const startedAtMs = performance.now();
    child.kill("SIGTERM");
    const code = await child.exited;
    return { code, durationMs: performance.now() - startedAtMs };
  };
  return { child, url, port, cwd, stop, logText };
}

function createTestFolder(): string {
  const folder = createFolder();
  folders.push(folder);
  return folder.path;
}

afterEach(async () => {
  for (const child of children.splice(0)) {
    child.kill("SIGTERM");
    await child.exited;
  }
  for (const folder of folders.splice(0)) folder[Symbol.dispose]();
});

/** The settings of an unreachable database. */
const unavailableDatabase = { DATABASE_URL: "postgres://nobody:hunter2@127.0.0.1:1/nothing" };

describe("Parley without configuration in an empty folder", () => {
  test("starts, stores all data in ./data, prevents a second instance, and shuts down quickly", async () => {
    const parley = startParley();
    await waitForStatus(`${parley.url}/readyz`, 200);
    expect(existsSync(join(parley.cwd, "data/jwt-secret"))).toBe(true);

    const health = await runParley(["healthcheck"], { env: { PORT: String(parley.port), HOST: "127.0.0.1" } });
    expect(health).toEqual({ code: 0, stdout: "", stderr: "" });

    const samePort = await runParley([], {
      cwd: createTestFolder(),
      env: { PORT: String(parley.port), HOST: "127.0.0.1" },
    });
    expect(samePort).toMatchObject({
      code: 1,
      stderr: `Port ${parley.port} on 127.0.0.1 is in use; stop the process that listens there, or set a different PORT.\n`,
    });

    const sameData = await runParley([], { cwd: parley.cwd, env: { PORT: "0" } });
    expect(sameData.code).toBe(1);
    expect(sameData.stderr).toMatch(
      /^Another Parley .* is running on DATA_DIR .*; stop it, or set a different DATA_DIR\.\n$/,
    );

    const migrationStatus = await runParley(["migrate", "--status"], { cwd: parley.cwd });
    expect(migrationStatus.code).toBe(0);
    expect(migrationStatus.stdout).toMatch(/^applied {2}0001_accounts\.sql \(\d{4}-/);
    const migration = await runParley(["migrate"], { cwd: parley.cwd });
    expect(migration).toMatchObject({ code: 0, stdout: "The database is up to date.\n" });

    const { code, durationMs } = await parley.stop();
    expect(code).toBe(0);
    // The limit is far below the shutdown timeout. It is more than a second, because the machine can be busy.
    expect(durationMs).toBeLessThan(4_000);
    const log = await parley.logText;
    expect(log).toContain(`is ready: http://localhost:${parley.port}`);
    for (const line of log.trim().split("\n")) expect(() => JSON.parse(line)).not.toThrow();

    const afterStop = await runParley(["healthcheck"], { env: { PORT: String(parley.port) } });
    expect(afterStop).toMatchObject({ code: 1, stderr: expect.stringContaining("start it with `parley serve`") });
  });
});

describe("while the database is unavailable", () => {
  test("Parley is live but not ready, returns 503, and can be shut down", async () => {
    const parley = startParley(unavailableDatabase);
    await waitForStatus(`${parley.url}/livez`, 200);
    expect((await fetch(`${parley.url}/readyz`)).status).toBe(503);
    const response = await fetch(`${parley.url}/api/v1/auth/login`, { method: "POST", body: "{}" });
    expect(response.status).toBe(503);
    expect(response.headers.get("retry-after")).toBe("1");
    expect(await response.json()).toMatchObject({ code: "unavailable" });
    expect((await fetch(`${parley.url}/version`)).status).toBe(200);
    expect((await fetch(`${parley.url}/metrics`)).status).toBe(200);

    const health = await runParley(["healthcheck"], { env: { PORT: String(parley.port) } });
    expect(health).toMatchObject({ code: 1, stderr: expect.stringContaining("The server is not ready (status 503)") });

    const { code, durationMs } = await parley.stop();
    expect(code).toBe(0);
    expect(durationMs).toBeLessThan(1_000);
    const log = await parley.logText;
    expect(log).toContain("the database is not responding; retrying");
    expect(log).not.toContain("hunter2");
  });

  test("a command fails with one error", async () => {
    const { code, stdout, stderr } = await runParley(["migrate"], { env: unavailableDatabase });
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toMatch(
      /^The database is unreachable \(.*\); check that it is running, and check DATABASE_URL\.\n$/,
    );
    expect(stderr).not.toContain("hunter2");
  });
});

describe("Parley in production", () => {
  const env = {
    ...unavailableDatabase,
    APP_ENV: "production",
    JWT_SECRET: "0123456789abcdef0123456789abcdef",
    SHUTDOWN_TIMEOUT_MS: "4000",
  };

  test.each(["production", "staging"])("stays live but not ready for a moment after SIGTERM (%s)", async (APP_ENV) => {
    const parley = startParley({ ...env, APP_ENV });
    await waitForStatus(`${parley.url}/livez`, 200);
    const stopping = parley.stop();
    await Bun.sleep(200);
    expect((await fetch(`${parley.url}/livez`)).status).toBe(200);
    const readiness = await fetch(`${parley.url}/readyz?verbose`);
    expect(readiness.status).toBe(503);
    expect(await readiness.text()).toContain("[-]lifecycle failed");
    const { code, durationMs } = await stopping;
    expect(code).toBe(0);
    expect(durationMs).toBeGreaterThan(700);
    expect(durationMs).toBeLessThan(2_500);
    expect(await parley.logText).toMatch(/"level":"warn".*METRICS_TOKEN: not set, so anyone who can reach this port/);
  });

  test("exits immediately on a second signal", async () => {
    const parley = startParley(env);
    await waitForStatus(`${parley.url}/livez`, 200);
    const stopping = parley.stop();
    await Bun.sleep(100);
    parley.child.kill("SIGTERM");
    const { code, durationMs } = await stopping;
    expect(code).toBe(1);
    expect(durationMs).toBeLessThan(700);
  });

  test("doesn't generate a JWT secret", async () => {
    const cwd = createTestFolder();
    const { code, stderr } = await runParley([], { cwd, env: { APP_ENV: "production" } });
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringMatching(/^JWT_SECRET: required in production/) });
    expect(existsSync(join(cwd, "data"))).toBe(false);
  });
});
