import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { isKey } from "../../src/modules/api-keys/key-format.ts";
import { TEST_PASSWORD } from "../support/client.ts";
import { createFolder, findFreePort, runParley, spawnParley, waitForStatus } from "./run-parley.ts";

describe("parley key create, with a running server and its embedded database,", () => {
  const folder = createFolder();
  const port = findFreePort();
  const env = { DATA_DIR: folder.path, PORT: String(port), HOST: "127.0.0.1", LOG_LEVEL: "silent" };
  const url = `http://127.0.0.1:${port}`;
  let server: ReturnType<typeof spawnParley>;
  const createKey = (...args: string[]) => runParley(["key", "create", "--name", "ci", ...args], { env });
  const fetchMe = (key: string, headers: Record<string, string> = {}) =>
    fetch(`${url}/api/v1/me`, { headers: { "x-api-key": key, ...headers } });

  async function register(email: string): Promise<{ id: string }> {
    const response = await fetch(`${url}/api/v1/auth/register`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ email, password: TEST_PASSWORD }),
    });
    return ((await response.json()) as { user: { id: string } }).user;
  }

  beforeAll(async () => {
    server = spawnParley(["serve"], { env });
    await waitForStatus(`${url}/readyz`, 200);
  }, 30_000);
  afterAll(async () => {
    server.kill();
    await server.exited;
    folder[Symbol.dispose]();
  });

  test("fails without an administrator, and the error explains how to create one", async () => {
    const { code, stdout, stderr } = await createKey("--scopes", "messages:read");
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toContain("parley admin create");
  }, 15_000);

  test("prints only a key, which belongs to the first administrator", async () => {
    for (const email of ["first@example.com", "second@example.com"])
      await runParley(["admin", "create", "--email", email, "--password", TEST_PASSWORD], { env });
    const { code, stdout, stderr } = await createKey("--scopes", "messages:read, admin");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(isKey(stdout.trim())).toBe(true);
    expect(stdout).toBe(`${stdout.trim()}\n`);
    expect(await (await fetchMe(stdout.trim())).json()).toMatchObject({ email: "first@example.com" });
    const keysResponse = await fetch(`${url}/api/v1/api-keys`, { headers: { "x-api-key": stdout.trim() } });
    expect(((await keysResponse.json()) as { data: unknown[] }).data).toMatchObject([
      { name: "ci", scopes: ["messages:read", "admin"], service: false, expires_at: null },
    ]);
  }, 20_000);

  test("creates keys for other users, service keys, and expiring keys", async () => {
    const anna = await register("Anna@example.com");
    const userKey = await createKey("--scopes", "messages:read", "--email", "anna@EXAMPLE.com");
    expect(await (await fetchMe(userKey.stdout.trim())).json()).toMatchObject({ id: anna.id });
    const serviceKey = await createKey(
      "--scopes",
      "messages:read",
      "--service",
      "--expires-at",
      "2999-01-31T00:00:00Z",
    );
    const onBehalfResponse = await fetchMe(serviceKey.stdout.trim(), { "x-on-behalf-of": anna.id });
    expect(await onBehalfResponse.json()).toMatchObject({ id: anna.id });
    const expiredKey = await createKey("--scopes", "messages:read", "--expires-at", "2001-01-31T00:00:00Z");
    expect(expiredKey).toEqual({ code: 2, stdout: "", stderr: "--expires-at must be a time in the future.\n" });
    // These commands fail, because Anna isn't an administrator and nobody@example.com doesn't exist.
    for (const args of [
      ["--scopes", "admin", "--email", "anna@example.com"],
      ["--scopes", "messages:read", "--service", "--email", "anna@example.com"],
      ["--scopes", "messages:read", "--email", "nobody@example.com"],
    ]) {
      const { code, stdout, stderr } = await createKey(...args);
      expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
      expect(stderr.trim().split("\n")).toHaveLength(1);
    }
  }, 30_000);
});

test.each([
  [["key"], "An action is missing"],
  [["key", "drop"], 'has no action "drop"'],
  [["key", "create", "--name", "n"], "--name and --scopes"],
  [["key", "create", "--scopes", "messages:read"], "--name and --scopes"],
  [["key", "create", "--name", "n", "--scopes", "messages:read,everything"], 'unknown scope "everything"'],
  [["key", "create", "--name", "n", "--scopes", " , "], "at least one"],
  [["key", "create", "--name", "", "--scopes", "admin"], "--name"],
  [["key", "create", "--name", "n".repeat(101), "--scopes", "admin"], "--name"],
  [["key", "create", "--name", "n", "--scopes", "admin", "--email", "nobody"], "--email"],
  [["key", "create", "--name", "n", "--scopes", "admin", "--expires-at", "tomorrow"], "--expires-at"],
  [["key", "create", "--name", "n", "--scopes", "admin", "--for", "ever"], "no option --for"],
])("%j is a usage error with a one-sentence message", async (args, expectedError) => {
  using folder = createFolder();
  const { code, stdout, stderr } = await runParley(args, { env: { DATA_DIR: folder.path }, cwd: folder.path });
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  expect(stderr).toContain(expectedError);
  expect(stderr.trim().split("\n")).toHaveLength(1);
});

test("parley key --help lists the scopes", async () => {
  const { code, stdout } = await runParley(["key", "--help"]);
  expect(code).toBe(0);
  for (const scope of ["conversations:read", "chat:completions", "admin"]) expect(stdout).toContain(scope);
});
