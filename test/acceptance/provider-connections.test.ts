import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Socket } from "bun";
import { serveBytes } from "../ai/raw-server.ts";
import type { Account } from "../support/client.ts";
import { createSite, type Parley, type Site, TEST_TIMEOUT_MS } from "./site.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

/** URL-encoded as in the address; decoded it is `us@er` and `pass/of:hunter2`. */
const USERINFO = "us%40er:pass%2Fof:hunter2";
const BASIC = `Basic ${btoa("us@er:pass/of:hunter2")}`;
const secrets = [USERINFO, "us@er", "pass%2Fof", "pass/of", "hunter2", btoa("us@er:pass/of:hunter2")];

const answered = new WeakSet<Socket>();
const seen: { model: string; authorization: string | undefined }[] = [];
let provider: ReturnType<typeof serveBytes>;
let site: Site;
let parley: Parley;
let anna: Account;

function respond(socket: Socket, status: string, body: string, field = "Content-Type: text/event-stream"): void {
  socket.write(`HTTP/1.1 ${status}\r\n${field}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
}

const helloStream =
  'data: {"choices":[{"index":0,"delta":{"content":"Hello."},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n';

/** The behavior of each model's server, apart from a normal answer. */
const behaviours: Record<string, (socket: Socket, authorization: string | undefined) => void> = {
  moved: (socket) => respond(socket, "308 Moved", "", "Location: //user:hunter2@new.example/v2/chat?key=hunter2"),
  echo: (socket, authorization) => respond(socket, "401 No", `Wrong: ${authorization} of ${USERINFO}`),
  overloaded(socket) {
    respond(socket, "200 OK", 'data: {"error":{"message":"overloaded"}}\n\n');
    socket.end();
  },
  stale: (socket) => (answered.has(socket) ? void socket.end() : respond(socket, "200 OK", helloStream)),
};

function answerRequest(socket: Socket, packet: string): void {
  const model = /"model":"([^"]*)"/.exec(packet)?.[1] ?? "";
  const authorization = /^authorization: (.*)\r$/im.exec(packet)?.[1];
  seen.push({ model, authorization });
  const behave = behaviours[model];
  if (behave) behave(socket, authorization);
  else respond(socket, "200 OK", helloStream);
  answered.add(socket);
}

beforeAll(async () => {
  provider = serveBytes(answerRequest);
  site = await createSite({
    env: {
      COMPATIBLE_BASE_URL: `${provider.url.replace("://", `://${USERINFO}@`)}v1`,
      AI_MODELS: "compatible/good,compatible/stale,compatible/moved,compatible/echo,compatible/overloaded",
      AI_MAX_RETRIES: "2",
      AI_FIRST_TOKEN_TIMEOUT_MS: "5000",
    },
  });
  parley = await site.start();
  anna = await parley.register();
});
afterAll(async () => {
  await site?.remove();
  provider?.stop();
});

/** Asks a model. @returns the text, or the status if there is none. */
async function askModel(model: string): Promise<string | number> {
  const response = await parley.fetch("/v1/chat/completions", {
    token: anna.access_token,
    json: { model: `compatible/${model}`, messages: [{ role: "user", content: "Hello" }] },
  });
  if (response.status !== 200) return response.status;
  const { choices } = (await response.json()) as { choices: { message: { content: string } }[] };
  return choices[0]?.message.content ?? "";
}

const countRequests = (model: string): number => seen.filter((request) => request.model === model).length;

test("sends the base URL's userinfo as Basic authentication", async () => {
  expect(await askModel("good")).toBe("Hello.");
  expect(seen.at(-1)).toEqual({ model: "good", authorization: BASIC });
});

test("errors whose connections close don't affect the next requests", async () => {
  for (let n = 0; n < 10; n += 1) await askModel("overloaded");
  for (let n = 0; n < 12; n += 1) expect(await askModel("good")).toBe("Hello.");
});

test("counts and logs a request that was sent again on a new connection", async () => {
  const before = countRequests("stale");
  expect(await askModel("good")).toBe("Hello.");
  expect(await askModel("stale")).toBe("Hello.");
  expect(countRequests("stale") - before).toBe(2);
  const metrics = await (await parley.fetch("/metrics")).text();
  expect(metrics).toContain('parley_ai_repeated_requests_total{provider="compatible"} 1');
  const lines = parley.readLog().split("\n");
  expect(lines.filter((line) => line.includes("request sent again"))).toEqual([
    expect.stringContaining('"provider":"compatible"'),
  ]);
});

test("requests a redirecting URL once, and logs where it points", async () => {
  await askModel("moved");
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

test("logs or prints no part of the userinfo", async () => {
  await askModel("echo");
  expect(countRequests("echo")).toBeGreaterThan(0);
  const config = await site.run(["config"]);
  expect(config.output).toContain(`\nCOMPATIBLE_BASE_URL=${provider.url.replace("://", "://********@")}v1 `);
  const log = site.readLog();
  expect(log).toContain("Wrong: ");
  expect(secrets.filter((secret) => log.includes(secret))).toEqual([]);
});

test("userinfo together with a key stops the start with one error", async () => {
  const config = await site.run(["config", "check"], {
    COMPATIBLE_API_KEY: "sk-hunter2",
    OPENAI_API_KEY: "sk-hunter2",
    OPENAI_BASE_URL: "https://user:hunter2@gateway.example/v1",
    ANTHROPIC_API_KEY: "sk-hunter2",
    ANTHROPIC_BASE_URL: "https://:hunter2@gateway.example",
  });
  expect(config.code).toBe(2);
  expect(config.errors.trimEnd().split("\n")).toEqual(
    ["OPENAI", "ANTHROPIC", "COMPATIBLE"].map(
      (name) => `${name}_BASE_URL: it has a user and password, but ${name}_API_KEY is set; remove one of them.`,
    ),
  );
});
