import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { connect } from "node:net";
import { createFolder, findFreePort, runParley, spawnParley, waitForStatus } from "./run-parley.ts";

setDefaultTimeout(30_000);

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of cleanups.splice(0).reverse()) await step();
});

function newFolder(): string {
  const folder = createFolder();
  cleanups.push(() => folder[Symbol.dispose]());
  return folder.path;
}

function serve(env: Record<string, string>, cwd = newFolder()) {
  const child = spawnParley([], { cwd, env });
  cleanups.push(async () => {
    child.kill("SIGTERM");
    await child.exited;
  });
  return child;
}

test("accepts an IPv6 address in brackets, also in healthcheck", async () => {
  const env = { HOST: "[::1]", PORT: String(findFreePort()) };
  serve(env);
  await waitForStatus(`http://[::1]:${env.PORT}/readyz`, 200);
  expect(await runParley(["healthcheck"], { env })).toEqual({ code: 0, stdout: "", stderr: "" });
});

describe("an address that can't be opened stops the start with one sentence, and leaves nothing behind", () => {
  test.each(["a b", "1.2.3.4.5", "fe80::1%nope", "[nonsense]", "192.0.2.1"])("HOST %j", async (host) => {
    const cwd = newFolder();
    const { code, stderr } = await runParley([], { cwd, env: { HOST: host, PORT: String(findFreePort()) } });
    const sentence = `HOST ${host} is not an address of this machine; use 0.0.0.0 for all of them.\n`;
    expect({ code, stderr, left: readdirSync(cwd) }).toEqual({ code: 1, stderr: sentence, left: [] });
  });

  test("a port in use", async () => {
    const taken = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response() });
    cleanups.push(() => taken.stop(true));
    const cwd = newFolder();
    const startedAtMs = performance.now();
    const { code, stderr } = await runParley([], { cwd, env: { HOST: "127.0.0.1", PORT: String(taken.port) } });
    expect(performance.now() - startedAtMs).toBeLessThan(5_000);
    expect(stderr).toStartWith(`Port ${taken.port} on 127.0.0.1 is in use; `);
    expect({ code, left: readdirSync(cwd) }).toEqual({ code: 1, left: [] });
  });
});

test("shuts down cleanly on SIGQUIT", async () => {
  const env = { HOST: "127.0.0.1", PORT: String(findFreePort()) };
  const child = serve(env);
  await waitForStatus(`http://127.0.0.1:${env.PORT}/readyz`, 200);
  child.kill("SIGQUIT");
  expect(await child.exited).toBe(0);
});

test("key create in the wrong folder creates nothing, and names the folder", async () => {
  const cwd = newFolder();
  const { code, stderr } = await runParley(["key", "create", "--name", "n", "--scopes", "messages:read"], { cwd });
  expect(stderr).toMatch(/^No embedded database exists in \/.*\/data; run this where `parley serve` runs, or set /);
  expect({ code, left: readdirSync(cwd) }).toEqual({ code: 1, left: [] });
});

test.each([
  ["part of a body", "/api/v1/auth/login", 200_000],
  ["a body without authentication", "/api/v1/conversations", 5_000_000],
] as const)(
  "a client that keeps the connection open after %s was rejected doesn't delay the shutdown",
  async (_name, path, sent) => {
    const env = { HOST: "127.0.0.1", PORT: String(findFreePort()), SHUTDOWN_TIMEOUT_MS: "20000" };
    const child = serve(env);
    await waitForStatus(`http://127.0.0.1:${env.PORT}/readyz`, 200);
    const socket = connect(Number(env.PORT), "127.0.0.1");
    cleanups.push(() => socket.destroy());
    const answered = new Promise<string>((resolve) => socket.once("data", (bytes) => resolve(String(bytes))));
    socket.on("error", () => {});
    const head = ["host: localhost", "content-type: application/json", "content-length: 5000000", "", ""].join("\r\n");
    socket.write(`POST ${path} HTTP/1.1\r\n${head}`);
    socket.write(Buffer.alloc(sent, " "));
    expect(await answered).toMatch(/^HTTP\/1\.1 4\d\d /);
    const startedAtMs = performance.now();
    child.kill("SIGTERM");
    expect(await child.exited).toBe(0);
    expect(performance.now() - startedAtMs).toBeLessThan(8_000);
  },
);
