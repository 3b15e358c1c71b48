import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import type { Account } from "../support/app.ts";
import { type ModelApp, startModelApp } from "./start-model-app.ts";

const ANSWER_TIMEOUT_MS = 600;

let app: ModelApp;
let anna: Account;
/** An MCP server whose tool responds long after the answer's timeout. */
let slowToolServer: ReturnType<typeof Bun.serve>;
let toolCalls = 0;

beforeAll(async () => {
  slowToolServer = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    idleTimeout: 0,
    async fetch(request) {
      if (request.method !== "POST") return new Response(null, { status: 405 });
      const { id, method } = (await request.json()) as { id?: number; method: string };
      if (id === undefined) return new Response(null, { status: 202 });
      if (method === "tools/call") {
        toolCalls += 1;
        await Bun.sleep(10_000);
      }
      const capabilities = { tools: {} };
      const result =
        method === "initialize"
          ? { protocolVersion: "2025-06-18", capabilities, serverInfo: { name: "slow", version: "1" } }
          : { tools: [{ name: "wait", inputSchema: { type: "object" } }] };
      return Response.json({ jsonrpc: "2.0", id, result });
    },
  });
  app = await startModelApp({
    AI_MODELS: "compatible/one,compatible/two",
    AI_ANSWER_TIMEOUT_MS: String(ANSWER_TIMEOUT_MS),
    MCP_SERVERS: `slow=${slowToolServer.url}`,
  });
  anna = await app.parley.register();
});
beforeEach(() => {
  app.provider.reset();
  toolCalls = 0;
});
afterAll(async () => {
  await app.stop();
  await slowToolServer.stop(true);
});

const pieces = Array.from({ length: 500 }, (_, index) => `word${index} `);
const timeoutFailure = { status: "failed", finish_reason: "error", error: { code: "provider_timeout" } };

test("an answer that takes too long fails with its partial text, and the provider request is aborted", async () => {
  app.provider.script("one", { pieces, pieceDelayMs: 20 });
  const { id } = await app.createConversation(anna, [], { title: "T" });
  const { reply } = await app.sendMessage(anna, id, "Tell me.");
  expect(reply).toMatchObject({ ...timeoutFailure, content: expect.stringMatching(/^word0 word1 /) });
  await Bun.sleep(20);
  expect(app.provider.requests.map(({ model, wasAborted }) => [model, wasAborted])).toEqual([["one", true]]);
});

test("all steps and tool calls of an answer share its timeout", async () => {
  const call = { name: "slow_wait", arguments: "{}" };
  app.provider.script("one", { text: "Let me look. ", toolCalls: [call, call, call] });
  const { id } = await app.createConversation(anna, [], { title: "T", tools: true });
  // The tool list might still be loading during the first answer, so only the second answer is checked.
  app.provider.script("two", { text: "Hello." });
  await app.sendMessage(anna, id, "Hello.", { model: "compatible/two" });
  app.provider.requests.length = 0;
  const startedAtMs = performance.now();
  const { reply } = await app.sendMessage(anna, id, "Look it up.");
  expect(performance.now() - startedAtMs).toBeWithin(ANSWER_TIMEOUT_MS, ANSWER_TIMEOUT_MS + 1_500);
  expect(reply).toMatchObject({ ...timeoutFailure, content: "Let me look. ", model: "compatible/one" });
  expect([toolCalls, app.provider.requests.length]).toEqual([1, 1]);
});

const requestCompletion = (options: object) =>
  app.parley.fetch("/v1/chat/completions", {
    token: anna.access_token,
    json: { model: "compatible/one", messages: [{ role: "user", content: "Hi" }], ...options },
  });

test("a /v1 stream that takes too long ends with provider_timeout and without [DONE]", async () => {
  app.provider.script("one", { pieces, pieceDelayMs: 20 });
  const text = await (await requestCompletion({ stream: true })).text();
  expect(text).toContain("word1 ");
  expect(text).not.toContain("[DONE]");
  expect(text).toContain('"provider_timeout"');
  await Bun.sleep(20);
  expect(app.provider.requests.map(({ model, wasAborted }) => [model, wasAborted])).toEqual([["one", true]]);
});

test("a /v1 request without streaming fails with provider_timeout if it takes too long", async () => {
  app.provider.script("one", { thinking: 1_000, pieceDelayMs: 20 });
  const response = await requestCompletion({});
  expect(response.status).toBeGreaterThanOrEqual(500);
  expect(await response.json()).toMatchObject({ error: { code: "provider_timeout" } });
  expect(app.provider.requests.length).toBe(1);
});
