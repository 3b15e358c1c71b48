import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { connect } from "node:net";
import { createFolder, findFreePort, runParley, spawnParley, waitForStatus } from "./run-parley.ts";

setDefaultTimeout(30_000);

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function createTestFolder(): string {
  const folder = createFolder();
  cleanups.push(() => folder[Symbol.dispose]());
  return folder.path;
}

function startParley(env: Record<string, string>, cwd = createTestFolder()) {
  const child = spawnParley([], { cwd, env });
  cleanups.push(async () => {
    child.kill("SIGTERM");
    await child.exited;
  });
  return child;
}

test("`parley serve` and `parley healthcheck` accept an IPv6 address in brackets as HOST", async () => {
  const env = { HOST: "[::1]", PORT: String(findFreePort()) };
  startParley(env);
  await waitForStatus(`http://[::1]:${env.PORT}/readyz`, 200);
  expect(await runParley(["healthcheck"], { env })).toEqual({ code: 0, stdout: "", stderr: "" });
});

describe("startup", () => {
  test.each(["a b", "1.2.3.4.5", "fe80::1%nope", "[nonsense]", "192.0.2.1"])(
    "fails with one error and creates no files if HOST is %j",
    async (host) => {
      const cwd = createTestFolder();
      const { code, stderr } = await runParley([], { cwd, env: { HOST: host, PORT: String(findFreePort()) } });
      const expectedError = `HOST ${host} is not an address of this machine; use 0.0.0.0 for all its addresses.\n`;
      expect({ code, stderr, createdFiles: readdirSync(cwd) }).toEqual({
        code: 1,
        stderr: expectedError,
        createdFiles: [],
      });
    },
  );

  test("fails with one error and creates no files if the port is in use", async () => {
    const otherServer = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response() });
    cleanups.push(() => otherServer.stop(true));
    const cwd = createTestFolder();
    const startedAtMs = performance.now();
    const { code, stderr } = await runParley([], { cwd, env: { HOST: "127.0.0.1", PORT: String(otherServer.port) } });
    expect(performance.now() - startedAtMs).toBeLessThan(5_000);
    expect(stderr).toStartWith(`Port ${otherServer.port} on 127.0.0.1 is in use; `);
    expect({ code, createdFiles: readdirSync(cwd) }).toEqual({ code: 1, createdFiles: [] });
  });
});

test("SIGQUIT shuts Parley down cleanly", async () => {
  const env = { HOST: "127.0.0.1", PORT: String(findFreePort()) };
  const child = startParley(env);
  await waitForStatus(`http://127.0.0.1:${env.PORT}/readyz`, 200);
  child.kill("SIGQUIT");
  expect(await child.exited).toBe(0);
});

test("`parley key create` creates no files in a folder without a database, and its error includes the path", async () => {
  const cwd = createTestFolder();
  const { code, stderr } = await runParley(["key", "create", "--name", "n", "--scopes", "messages:read"], { cwd });
  expect(stderr).toMatch(/^No embedded database exists in \/.*\/data; run this where `parley serve` runs, or set /);
  expect({ code, createdFiles: readdirSync(cwd) }).toEqual({ code: 1, createdFiles: [] });
});

test.each([
  ["a partial body", "/api/v1/auth/login", 200_000],
  ["an unauthenticated request", "/api/v1/conversations", 5_000_000],
] as const)(
  "a client that keeps its connection open after sending %s doesn't delay the shutdown",
  async (_request, path, bodyBytes) => {
    const env = { HOST: "127.0.0.1", PORT: String(findFreePort()), SHUTDOWN_TIMEOUT_MS: "20000" };
    const child = startParley(env);
    await waitForStatus(`http://127.0.0.1:${env.PORT}/readyz`, 200);
    const socket = connect(Number(env.PORT), "127.0.0.1");
    cleanups.push(() => socket.destroy());
    const response = new Promise<string>((resolve) => socket.once("data", (bytes) => resolve(String(bytes))));
    socket.on("error", () => {});
    const head = ["host: localhost", "content-type: application/json", "content-length: 5000000", "", ""].join("\r\n");
    socket.write(`POST ${path} HTTP/1.1\r\n${head}`);
    socket.write(Buffer.alloc(bodyBytes, " "));
    expect(await response).toMatch(/^HTTP\/1\.1 4\d\d /);
    const startedAtMs = performance.now();
    child.kill("SIGTERM");
    expect(await child.exited).toBe(0);
    expect(performance.now() - startedAtMs).toBeLessThan(8_000);
  },
);
