import { afterAll, beforeAll, expect, test } from "bun:test";
import { startApp, type TestApp } from "../support/app.ts";
import { createTestLog } from "../support/log.ts";

// This server only reserves a port. It is stopped before Parley starts, so that nothing listens on the port.
const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response() });
const { port } = server;
const { log, lines } = createTestLog();
let parley: TestApp;

beforeAll(async () => {
  await server.stop(true);
  parley = await startApp({
    config: {
      AI_PROVIDERS: `local-one=http://127.0.0.1:${port}/v1`,
      COMPATIBLE_BASE_URL: `http://localhost:${port}/v1`,
      AI_MODELS: "local-one/a,compatible/b",
      AI_MAX_RETRIES: "0",
    },
    log,
  });
});
afterAll(() => parley?.stop());

test("the log reports that a model's server is unreachable, and mentions the setting", async () => {
  const { access_token: token } = await parley.register();
  const json = { model: "local-one/a", messages: [{ role: "user", content: "Hello" }] };
  const response = await parley.fetch("/v1/chat/completions", { token, json });
  expect(response.status).toBe(503);
  expect(await response.text()).not.toContain("ECONNREFUSED");
  const failures = lines.filter(({ model, msg }) => model !== undefined && /^model failed/.test(String(msg)));
  expect(failures.map(({ model, msg }) => [model, msg])).toEqual([
    [
      "local-one/a",
      expect.stringContaining(
        `127.0.0.1:${port} cannot be reached from here: check the URL of local-one in AI_PROVIDERS, and that the server is running.`,
      ),
    ],
    [
      "compatible/b",
      expect.stringContaining(
        `localhost:${port} cannot be reached from here: check COMPATIBLE_BASE_URL, and that the server is running.`,
      ),
    ],
  ]);
});
