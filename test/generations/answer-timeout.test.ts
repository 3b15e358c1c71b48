import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import type { Account } from "../support/app.ts";
import { type Asking, startAsking } from "./start-asking.ts";

const ANSWER_TIMEOUT_MS = 600;

let asking: Asking;
let anna: Account;
/** Answers a call only long after the answer's deadline. */
let slowTool: ReturnType<typeof Bun.serve>;
let toolCalls = 0;

beforeAll(async () => {
  slowTool = Bun.serve({
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
  asking = await startAsking({
    AI_MODELS: "compatible/one,compatible/two",
    AI_ANSWER_TIMEOUT_MS: String(ANSWER_TIMEOUT_MS),
    MCP_SERVERS: `slow=${slowTool.url}`,
  });
  anna = await asking.parley.register();
});
beforeEach(() => {
  asking.provider.reset();
  toolCalls = 0;
});
afterAll(async () => {
  await asking.stop();
  await slowTool.stop(true);
});

const pieces = Array.from({ length: 500 }, (_, index) => `word${index} `);
const failed = { status: "failed", finish_reason: "error", error: { code: "provider_timeout" } };

test("an answer that takes too long fails, keeps its text, and ends the call of its model", async () => {
  asking.provider.script("one", { pieces, pieceDelayMs: 20 });
  const { id } = await asking.createConversation(anna, [], { title: "T" });
  const { reply } = await asking.say(anna, id, "Tell me.");
  expect(reply).toMatchObject({ ...failed, content: expect.stringMatching(/^word0 word1 /) });
  await Bun.sleep(20);
  expect(asking.provider.requests.map(({ model, aborted }) => [model, aborted])).toEqual([["one", true]]);
});

test("steps and tool calls share the time of their answer", async () => {
  const call = { name: "slow_wait", arguments: "{}" };
  asking.provider.script("one", { text: "Let me look. ", toolCalls: [call, call, call] });
  const { id } = await asking.createConversation(anna, [], { title: "T", tools: true });
  // The list of tools is loaded by the second answer at the latest.
  asking.provider.script("two", { text: "Hello." });
  await asking.say(anna, id, "Hello.", { model: "compatible/two" });
  asking.provider.requests.length = 0;
  const startedMs = performance.now();
  const { reply } = await asking.say(anna, id, "Look it up.");
  expect(performance.now() - startedMs).toBeWithin(ANSWER_TIMEOUT_MS, ANSWER_TIMEOUT_MS + 1_500);
  expect(reply).toMatchObject({ ...failed, content: "Let me look. ", model: "compatible/one" });
  expect([toolCalls, asking.provider.requests.length]).toEqual([1, 1]);
});

const complete = (more: object) =>
  asking.parley.fetch("/v1/chat/completions", {
    token: anna.access_token,
    json: { model: "compatible/one", messages: [{ role: "user", content: "Hi" }], ...more },
  });

test("below /v1 a stream ends with the error, and without an end mark", async () => {
  asking.provider.script("one", { pieces, pieceDelayMs: 20 });
  const text = await (await complete({ stream: true })).text();
  expect(text).toContain("word1 ");
  expect(text).not.toContain("[DONE]");
  expect(text).toContain('"provider_timeout"');
  await Bun.sleep(20);
  expect(asking.provider.requests.map(({ model, aborted }) => [model, aborted])).toEqual([["one", true]]);
});

test("below /v1 a whole answer is refused as a timeout", async () => {
  asking.provider.script("one", { thinking: 1_000, pieceDelayMs: 20 });
  const response = await complete({});
  expect(response.status).toBeGreaterThanOrEqual(500);
  expect(await response.json()).toMatchObject({ error: { code: "provider_timeout" } });
  expect(asking.provider.requests.length).toBe(1);
});
