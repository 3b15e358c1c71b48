import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createFolder, findFreePort, runParley, spawnParley, waitForStatus } from "./run-parley.ts";

/** Each of these tests starts several processes. */
const TIMEOUT_MS = 30_000;
setDefaultTimeout(TIMEOUT_MS);

type Child = ReturnType<typeof spawnParley>;

const children: Child[] = [];
const folders: ReturnType<typeof createFolder>[] = [];

/** Runs `parley serve` in an empty folder, which is cleaned up after the test. */
function serve(env: Record<string, string> = {}, cwd = newFolder()) {
  const port = findFreePort();
  const child = spawnParley([], { cwd, env: { PORT: String(port), HOST: "127.0.0.1", ...env } });
  children.push(child);
  const url = `http://127.0.0.1:${port}`;
  const logged = new Response(child.stdout).text();
  const end = async () => {
    const startedAt = performance.now();
    child.kill("SIGTERM");
    const code = await child.exited;
    return { code, ms: performance.now() - startedAt };
  };
  return { child, url, port, cwd, end, logged };
}

function newFolder(): string {
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

/** A database that doesn't exist. */
const unavailable = { DATABASE_URL: "postgres://nobody:hunter2@127.0.0.1:1/nothing" };

describe("with no configuration, in an empty folder", () => {
  test("serves, keeps all data in ./data, rejects a second instance, and shuts down quickly", async () => {
    const parley = serve();
    await waitForStatus(`${parley.url}/readyz`, 200);
    expect(existsSync(join(parley.cwd, "data/jwt-secret"))).toBe(true);

    const health = await runParley(["healthcheck"], { env: { PORT: String(parley.port), HOST: "127.0.0.1" } });
    expect(health).toEqual({ code: 0, stdout: "", stderr: "" });

    const samePort = await runParley([], { cwd: newFolder(), env: { PORT: String(parley.port), HOST: "127.0.0.1" } });
    expect(samePort).toMatchObject({
      code: 1,
      stderr: `Port ${parley.port} on 127.0.0.1 is in use; stop the process that listens there, or set another PORT.\n`,
    });

    const sameData = await runParley([], { cwd: parley.cwd, env: { PORT: "0" } });
    expect(sameData.code).toBe(1);
    expect(sameData.stderr).toMatch(
      /^Another Parley .* is running on DATA_DIR .*; stop it, or set another DATA_DIR\.\n$/,
    );

    const migrationStatus = await runParley(["migrate", "--status"], { cwd: parley.cwd });
    expect(migrationStatus.code).toBe(0);
    expect(migrationStatus.stdout).toMatch(/^applied {2}0001_accounts\.sql \(\d{4}-/);
    const again = await runParley(["migrate"], { cwd: parley.cwd });
    expect(again).toMatchObject({ code: 0, stdout: "The database is up to date.\n" });

    const { code, ms } = await parley.end();
    expect(code).toBe(0);
    // Far below the shutdown timeout; a busy machine takes more than a second.
    expect(ms).toBeLessThan(4_000);
    const log = await parley.logged;
    expect(log).toContain(`is ready: http://localhost:${parley.port}`);
    for (const line of log.trim().split("\n")) expect(() => JSON.parse(line)).not.toThrow();

    const gone = await runParley(["healthcheck"], { env: { PORT: String(parley.port) } });
    expect(gone).toMatchObject({ code: 1, stderr: expect.stringContaining("start it with `parley serve`") });
  });
});

describe("while the database is unavailable", () => {
  test("is live but not ready, returns 503, and shuts down on request", async () => {
    const parley = serve(unavailable);
    await waitForStatus(`${parley.url}/livez`, 200);
    expect((await fetch(`${parley.url}/readyz`)).status).toBe(503);
    const refused = await fetch(`${parley.url}/api/v1/auth/login`, { method: "POST", body: "{}" });
    expect(refused.status).toBe(503);
    expect(refused.headers.get("retry-after")).toBe("1");
    expect(await refused.json()).toMatchObject({ code: "unavailable" });
    expect((await fetch(`${parley.url}/version`)).status).toBe(200);
    expect((await fetch(`${parley.url}/metrics`)).status).toBe(200);

    const health = await runParley(["healthcheck"], { env: { PORT: String(parley.port) } });
    expect(health).toMatchObject({ code: 1, stderr: expect.stringContaining("The server is not ready (status 503)") });

    const { code, ms } = await parley.end();
    expect(code).toBe(0);
    expect(ms).toBeLessThan(1_000);
    const log = await parley.logged;
    expect(log).toContain("the database is not responding; retrying");
    expect(log).not.toContain("hunter2");
  });

  test("a command reports it in one sentence", async () => {
    const { code, stdout, stderr } = await runParley(["migrate"], { env: unavailable });
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toMatch(
      /^The database is unreachable \(.*\); check that it is running, and check DATABASE_URL\.\n$/,
    );
    expect(stderr).not.toContain("hunter2");
  });
});

describe("in production", () => {
  const env = {
    ...unavailable,
    APP_ENV: "production",
    JWT_SECRET: "0123456789abcdef0123456789abcdef",
    SHUTDOWN_TIMEOUT_MS: "4000",
  };

  test.each(["production", "staging"])(
    "keeps serving for a moment after SIGTERM in %s, live but not ready",
    async (APP_ENV) => {
      const parley = serve({ ...env, APP_ENV });
      await waitForStatus(`${parley.url}/livez`, 200);
      const ended = parley.end();
      await Bun.sleep(200);
      expect((await fetch(`${parley.url}/livez`)).status).toBe(200);
      const readiness = await fetch(`${parley.url}/readyz?verbose`);
      expect(readiness.status).toBe(503);
      expect(await readiness.text()).toContain("[-]lifecycle failed");
      const { code, ms } = await ended;
      expect(code).toBe(0);
      expect(ms).toBeGreaterThan(700);
      expect(ms).toBeLessThan(2_500);
      expect(await parley.logged).toMatch(/"level":"warn".*METRICS_TOKEN: not set, so anyone who can reach this port/);
    },
  );

  test("a second signal exits immediately", async () => {
    const parley = serve(env);
    await waitForStatus(`${parley.url}/livez`, 200);
    const ended = parley.end();
    await Bun.sleep(100);
    parley.child.kill("SIGTERM");
    const { code, ms } = await ended;
    expect(code).toBe(1);
    expect(ms).toBeLessThan(700);
  });

  test("doesn't generate a JWT secret", async () => {
    const cwd = newFolder();
    const { code, stderr } = await runParley([], { cwd, env: { APP_ENV: "production" } });
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringMatching(/^JWT_SECRET: required in production/) });
    expect(existsSync(join(cwd, "data"))).toBe(false);
  });
});
