import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Socket } from "bun";
import { startRawServer } from "../ai/raw-server.ts";
import type { Account } from "../support/client.ts";
import { createInstallation, type Installation, type Parley, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

/** The URL-encoded user `us@er` and password `pass/of:hunter2`. */
const USERINFO = "us%40er:pass%2Fof:hunter2";
const BASIC = `Basic ${btoa("us@er:pass/of:hunter2")}`;
const secrets = [USERINFO, "us@er", "pass%2Fof", "pass/of", "hunter2", btoa("us@er:pass/of:hunter2")];

const usedSockets = new WeakSet<Socket>();
const requests: { model: string; authorization: string | undefined }[] = [];
let provider: ReturnType<typeof startRawServer>;
let installation: Installation;
let parley: Parley;
let anna: Account;

function writeResponse(socket: Socket, status: string, body: string, header = "Content-Type: text/event-stream"): void {
  socket.write(`HTTP/1.1 ${status}\r\n${header}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
}

const helloStream =
  'data: {"choices":[{"index":0,"delta":{"content":"Hello."},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n';

/** The responses of the models that don't send a normal answer. */
const responders: Record<string, (socket: Socket, authorization: string | undefined) => void> = {
  moved: (socket) => writeResponse(socket, "308 Moved", "", "Location: //user:hunter2@new.example/v2/chat?key=hunter2"),
  echo: (socket, authorization) => writeResponse(socket, "401 No", `Wrong: ${authorization} of ${USERINFO}`),
  overloaded(socket) {
    writeResponse(socket, "200 OK", 'data: {"error":{"message":"overloaded"}}\n\n');
    socket.end();
  },
  stale: (socket) => (usedSockets.has(socket) ? void socket.end() : writeResponse(socket, "200 OK", helloStream)),
};

function handleRequest(socket: Socket, packet: string): void {
  const model = /"model":"([^"]*)"/.exec(packet)?.[1] ?? "";
  const authorization = /^authorization: (.*)\r$/im.exec(packet)?.[1];
  requests.push({ model, authorization });
  const responder = responders[model];
  if (responder) responder(socket, authorization);
  else writeResponse(socket, "200 OK", helloStream);
  usedSockets.add(socket);
}

beforeAll(async () => {
  provider = startRawServer(handleRequest);
  installation = await createInstallation({
    env: {
      COMPATIBLE_BASE_URL: `${provider.url.replace("://", `://${USERINFO}@`)}v1`,
      AI_MODELS: "compatible/good,compatible/stale,compatible/moved,compatible/echo,compatible/overloaded",
      AI_MAX_RETRIES: "2",
      AI_FIRST_TOKEN_TIMEOUT_MS: "5000",
    },
  });
  parley = await installation.start();
  anna = await parley.register();
});
afterAll(async () => {
  await installation?.remove();
  provider?.stop();
});

/** Requests a completion. Returns its text, or the status if the request fails. */
async function requestCompletion(model: string): Promise<string | number> {
  const response = await parley.fetch("/v1/chat/completions", {
    token: anna.access_token,
    json: { model: `compatible/${model}`, messages: [{ role: "user", content: "Hello" }] },
  });
  if (response.status !== 200) return response.status;
  const { choices } = (await response.json()) as { choices: { message: { content: string } }[] };
  return choices[0]?.message.content ?? "";
}

const countRequests = (model: string): number => requests.filter((request) => request.model === model).length;

test("the base URL's userinfo is sent as Basic authentication", async () => {
  expect(await requestCompletion("good")).toBe("Hello.");
  expect(requests.at(-1)).toEqual({ model: "good", authorization: BASIC });
});

test("errors that close their connection don't affect later requests", async () => {
  for (let n = 0; n < 10; n += 1) await requestCompletion("overloaded");
  for (let n = 0; n < 12; n += 1) expect(await requestCompletion("good")).toBe("Hello.");
});

test("a request that must be sent again on a new connection is counted and logged", async () => {
  const requestCountBefore = countRequests("stale");
  expect(await requestCompletion("good")).toBe("Hello.");
  expect(await requestCompletion("stale")).toBe("Hello.");
  expect(countRequests("stale") - requestCountBefore).toBe(2);
  const metrics = await (await parley.fetch("/metrics")).text();
  expect(metrics).toContain('parley_ai_repeated_requests_total{provider="compatible"} 1');
  const lines = parley.readLog().split("\n");
  expect(lines.filter((line) => line.includes("request sent again"))).toEqual([
    expect.stringContaining('"provider":"compatible"'),
  ]);
});

test("a redirect isn't followed, and its target is logged", async () => {
  await requestCompletion("moved");
  expect(countRequests("moved")).toBe(1);
  const line = parley
    .readLog()
    .split("\n")
    .find((text) => text.includes('"compatible/moved"') && text.includes("cause"));
  expect(JSON.parse(line ?? "{}")).toMatchObject({
    code: "provider_unavailable",
    cause: expect.stringContaining("redirects are not followed"),
  });
  expect(line).toContain("http://new.example/v2/chat");
});

test("no part of the userinfo is logged or printed", async () => {
  await requestCompletion("echo");
  expect(countRequests("echo")).toBeGreaterThan(0);
  const config = await installation.run(["config"]);
  expect(config.stdout).toContain(`\nCOMPATIBLE_BASE_URL=${provider.url.replace("://", "://********@")}v1 `);
  const log = installation.readLog();
  expect(log).toContain("Wrong: ");
  expect(secrets.filter((secret) => log.includes(secret))).toEqual([]);
});

test("setting both userinfo and a key is a configuration error", async () => {
  const config = await installation.run(["config", "check"], {
    COMPATIBLE_API_KEY: "sk-hunter2",
    OPENAI_API_KEY: "sk-hunter2",
    OPENAI_BASE_URL: "https://user:hunter2@gateway.example/v1",
    ANTHROPIC_API_KEY: "sk-hunter2",
    ANTHROPIC_BASE_URL: "https://:hunter2@gateway.example",
  });
  expect(config.code).toBe(2);
  expect(config.stderr.trimEnd().split("\n")).toEqual(
    ["OPENAI", "ANTHROPIC", "COMPATIBLE"].map(
      (name) => `${name}_BASE_URL: it has a user and password, but ${name}_API_KEY is set; remove one of them.`,
    ),
  );
});
