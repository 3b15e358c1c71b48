import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import type { ChatMessage, Thinking } from "../../src/ai/provider.ts";
import { THINKING_LENGTH_MAX } from "../../src/ai/thinking.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { collect, createRecorder, createTestChain } from "./collect.ts";
import { startRejectingServer } from "./rejecting-server.ts";
import { openAi } from "./rejections.ts";

let mockProvider: MockProvider;
let server: ReturnType<typeof startRejectingServer>;
beforeAll(() => {
  mockProvider = startMockProvider();
  server = startRejectingServer();
});
afterEach(() => mockProvider.reset());
afterAll(async () => {
  await mockProvider.stop();
  await server.stop();
});

const tool = { name: "f", description: null, parameters: { type: "object" } };
const toolCalls = [
  { id: "call_1", name: "f", arguments: "{}" },
  { id: "call_2", name: "f", arguments: "{}" },
];
const loop = (thinking?: Thinking, content = ""): ChatMessage[] => [
  { role: "user", content: "What is it?" },
  { role: "assistant", content, toolCalls, thinking },
  { role: "tool", toolCallId: "call_1", content: "This." },
  { role: "tool", toolCallId: "call_2", content: "That." },
];

const signed: Thinking = {
  provider: "anthropic",
  data: {
    model: "model",
    blocks: [
      { type: "thinking", thinking: "Thought", signature: "signed" },
      { type: "text", text: "Let me look." },
      { type: "tool_use", id: "call_1" },
      { type: "redacted_thinking", data: "redacted" },
      { type: "tool_use", id: "call_2" },
    ],
  },
};
const encrypted: Thinking = {
  provider: "openai",
  data: {
    model: "model",
    items: [
      { type: "reasoning", id: "rs_1", summary: [], encrypted_content: "encrypted" },
      { type: "function_call", id: "fc_1", call_id: "call_1" },
      { type: "message", phase: "commentary" },
      { type: "function_call", id: "fc_2", call_id: "call_2" },
    ],
  },
};
const plain: Thinking = {
  provider: "compatible",
  data: { model: "model", field: "reasoning_content", text: "Thought" },
};

const ask = (model: string, messages: ChatMessage[], provider: MockProvider = server.urls) =>
  collect(createTestChain(provider, [model]), { messages, options: { tools: [tool] } });

/** The message with the calls, as sent to the model. */
async function sentBack(model: string, messages: ChatMessage[]): Promise<unknown> {
  server.refuse(() => null);
  expect((await ask(model, messages)).text).toBe("Done.");
  const { messages: sentMessages, input } = server.bodies[0] ?? {};
  return input ?? (sentMessages as { role: string }[]).find(({ role }) => role === "assistant");
}

describe("thinking is sent back in its original position", () => {
  test("Anthropic's blocks between texts and calls", async () => {
    const call = { type: "tool_use", name: "f", input: {} };
    expect(await sentBack("anthropic/model", loop(signed, "Let me look."))).toEqual({
      role: "assistant",
      content: [
        { type: "thinking", thinking: "Thought", signature: "signed" },
        { type: "text", text: "Let me look." },
        { ...call, id: "call_1" },
        { type: "redacted_thinking", data: "redacted" },
        { ...call, id: "call_2" },
      ],
    });
  });

  test("text started by another model comes after the thinking, complete", async () => {
    const sent = (await sentBack("anthropic/model", loop(signed, "Well. Let me look."))) as {
      content: { type: string }[];
    };
    expect(sent.content.map(({ type }) => type)).toEqual([
      "thinking",
      "text",
      "tool_use",
      "redacted_thinking",
      "tool_use",
    ]);
    expect(sent.content[1]).toMatchObject({ text: "Well. Let me look." });
  });

  test("OpenAI's items with their ids, and the message with its phase", async () => {
    const call = { type: "function_call", name: "f", arguments: "{}" };
    expect(await sentBack("openai/model", loop(encrypted, "One moment."))).toEqual([
      { role: "user", content: "What is it?" },
      { type: "reasoning", id: "rs_1", summary: [], encrypted_content: "encrypted" },
      { ...call, id: "fc_1", call_id: "call_1" },
      { role: "assistant", content: "One moment.", phase: "commentary" },
      { ...call, id: "fc_2", call_id: "call_2" },
      { type: "function_call_output", call_id: "call_1", output: "This." },
      { type: "function_call_output", call_id: "call_2", output: "That." },
    ]);
  });

  test("an earlier call without a result isn't awaited: reasoning without its follow-up is omitted", async () => {
    const { data } = encrypted as { data: { items: object[] } };
    const items = [...data.items, { type: "reasoning", id: "rs_2", summary: [], encrypted_content: "last" }];
    const sent = await sentBack("openai/model", loop({ provider: "openai", data: { model: "model", items } }));
    expect(JSON.stringify(sent)).not.toContain("rs_2");
  });

  test("a chat model's reasoning in its original field, also to another model of the same server", async () => {
    expect(await sentBack("compatible/model", loop(plain))).toMatchObject({ reasoning_content: "Thought" });
    expect(await sentBack("compatible/other", loop(plain))).toMatchObject({ reasoning_content: "Thought" });
    const vllm: Thinking = { provider: "compatible", data: { model: "model", field: "reasoning", text: "Thought" } };
    const sent = (await sentBack("compatible/model", loop(vllm))) as object;
    expect(sent).toMatchObject({ reasoning: "Thought" });
    expect(sent).not.toHaveProperty("reasoning_content");
  });

  test.each([
    ["anthropic/other", signed],
    ["openai/other", encrypted],
    ["anthropic/model", encrypted],
    ["openai/model", plain],
    ["compatible/model", { ...plain, provider: "other-server" }],
    ["compatible/model", { provider: "compatible", data: null }],
    ["anthropic/model", { provider: "anthropic", data: { model: "model", blocks: "none" } }],
    ["openai/model", { provider: "openai", data: { model: "model", items: [null, 1, {}] } }],
  ] as [string, Thinking][])("%s gets none of another model, server, or format", async (model, thinking) => {
    const sent = await sentBack(model, loop(thinking, "Let me look."));
    expect(JSON.stringify(sent)).not.toMatch(/Thought|signed|encrypted|redacted/);
  });

  test("no budget is set if the loop started without thinking", async () => {
    const model = "anthropic/claude-sonnet-4-5";
    const own = { ...signed, data: { ...(signed.data as object), model: "claude-sonnet-4-5" } };
    const later: ChatMessage[] = [
      { role: "assistant", content: "", toolCalls: [{ id: "call_3", name: "f", arguments: "{}" }] },
      { role: "tool", toolCallId: "call_3", content: "Later." },
    ];
    const begun = loop(own, "Let me look.");
    for (const [messages, isSet] of [
      [loop(undefined, "Let me look."), false],
      [begun, true],
      [[...begun, ...later], true],
      [[...begun, { role: "assistant", content: "It is this." }, { role: "user", content: "And?" }, ...later], false],
    ] as [ChatMessage[], boolean][]) {
      server.refuse(() => null);
      const options = { tools: [tool], reasoningEffort: "high" as const };
      await collect(createTestChain(server.urls, [model]), { messages, options });
      expect("thinking" in (server.bodies[0] ?? {})).toBe(isSet);
      expect(JSON.stringify(server.bodies[0]).includes('"signature":"signed"')).toBe(isSet);
    }
  });
});

describe("rejected or missing thinking is repaired in the same attempt", () => {
  const has = (body: object, word: string) => JSON.stringify(body).includes(word);
  const anthropic = (message: string) => ({ type: "error", error: { type: "invalid_request_error", message } });

  test.each([
    [
      "anthropic/model",
      signed,
      "signed",
      anthropic(
        "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a different conversation. Remove the block.",
      ),
    ],
    [
      "openai/model",
      encrypted,
      "rs_1",
      openAi("The encrypted content for item rs_1 could not be verified.", null, "invalid_encrypted_content"),
    ],
    [
      "openai/model",
      encrypted,
      "rs_1",
      openAi("Item with id 'rs_1' not found. Items are not persisted when `store` is set to false."),
    ],
    ["compatible/model", plain, "Thought", openAi("'messages.1' : property 'reasoning_content' is unsupported")],
    [
      "compatible/model",
      {
        provider: "compatible",
        data: { model: "model", extras: [["call_1", { google: { thought_signature: "Thought" } }]] },
      },
      "Thought",
      [{ error: { code: 400, message: "Thought signature is not valid.", status: "INVALID_ARGUMENT" } }],
    ],
  ] as [string, Thinking, string, unknown][])(
    "%s: rejected thinking is omitted",
    async (model, thinking, word, body) => {
      const { observe, events } = createRecorder();
      // As JSON, or as an event in a successful response.
      for (const status of [400, 200]) {
        if (status === 200 && Array.isArray(body)) continue;
        server.refuse((sent) => (has(sent, word) ? { status, body } : null));
        const chain = createTestChain(server.urls, [model, "anthropic/spare"], { observe });
        const { text, end } = await collect(chain, { messages: loop(thinking), options: { tools: [tool] } });
        expect([text, end.type === "finish" && end.model, server.bodies.length]).toEqual(["Done.", model, 2]);
      }
      expect(events.filter(([what]) => what === "failover")).toEqual([]);
    },
  );

  test("a server that still rejects it is called twice, then the next model", async () => {
    const body = anthropic("messages.1.content.0: Invalid `signature` in `thinking` block");
    server.refuse(({ model }) => (model === "model" ? { status: 400, body } : null));
    const chain = createTestChain(server.urls, ["anthropic/model", "anthropic/spare"]);
    const { end } = await collect(chain, { messages: loop(signed), options: { tools: [tool] } });
    expect([end.model, server.bodies.length]).toEqual(["anthropic/spare", 3]);
  });

  test("DeepSeek's field is empty for calls of other models", async () => {
    server.refuse((sent) =>
      has(sent, '"reasoning_content":""')
        ? null
        : { status: 400, body: openAi("The `reasoning_content` in the thinking mode must be passed back to the API.") },
    );
    expect((await ask("compatible/model", loop())).text).toBe("Done.");
    expect(server.bodies).toHaveLength(2);
  });

  test("Gemini is told to skip the signature of other models' calls", async () => {
    const message = "Function call is missing a thought_signature in functionCall parts.";
    server.refuse((sent) =>
      has(sent, "skip_thought_signature_validator") ? null : { status: 400, body: [{ error: { code: 400, message } }] },
    );
    expect((await ask("compatible/model", loop())).text).toBe("Done.");
    const sentMessages = (server.bodies[1]?.messages ?? []) as { tool_calls?: { extra_content?: unknown }[] }[];
    expect(sentMessages[1]?.tool_calls?.map(({ extra_content }) => extra_content)).toEqual([
      { google: { thought_signature: "skip_thought_signature_validator" } },
      undefined,
    ]);
  });
});

const chunk = (delta: object, finish_reason: string | null = null) =>
  `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason }] })}\n\n`;
const called = { index: 0, id: "call_1", type: "function", function: { name: "f", arguments: "{}" } };

/** The thinking recorded from a chat server. */
async function readThinking(recording: string): Promise<unknown> {
  mockProvider.script("model", { recording });
  const { end } = await ask("compatible/model", [{ role: "user", content: "?" }], mockProvider);
  if (end.type !== "finish") throw new Error(JSON.stringify(end));
  return (end.thinking?.data as object) ?? null;
}

describe("a chat server's thinking is read", () => {
  const end = `${chunk({ tool_calls: [called] }, "tool_calls")}data: [DONE]\n\n`;

  test("in either field, also if empty, and once if a server sends both", async () => {
    expect(await readThinking(chunk({ reasoning: "One " }) + chunk({ reasoning: "two" }) + end)).toEqual({
      model: "model",
      field: "reasoning",
      text: "One two",
    });
    expect(await readThinking(chunk({ reasoning_content: "" }) + end)).toMatchObject({ text: "" });
    expect(await readThinking(chunk({ reasoning_content: "Both", reasoning: "Both" }) + end)).toMatchObject({
      field: "reasoning_content",
      text: "Both",
    });
    expect(await readThinking(chunk({ reasoning_content: null }) + end)).toBeNull();
  });

  test("from a JSON document", async () => {
    const message = { role: "assistant", content: null, reasoning_content: "Whole", tool_calls: [called] };
    const document = JSON.stringify({ choices: [{ index: 0, message, finish_reason: "tool_calls" }] });
    expect(await readThinking(document)).toMatchObject({ field: "reasoning_content", text: "Whole" });
  });

  test("Gemini's signatures of calls and of a text, also after the call", async () => {
    const extra_content = { google: { thought_signature: "signed" } };
    const apart = chunk({ tool_calls: [called] }) + chunk({ tool_calls: [{ index: 0, extra_content }] }, "tool_calls");
    expect(await readThinking(`${apart}data: [DONE]\n\n`)).toMatchObject({ extras: [["call_1", extra_content]] });
    const text = chunk({ content: "Text." }) + chunk({ content: "", extra_content }, "stop");
    expect(await readThinking(`${text}data: [DONE]\n\n`)).toEqual({ model: "model", extra: extra_content });
    const thought = chunk({ content: "Text.", extra_content: { google: { thought: true } } }, "stop");
    expect(await readThinking(`${thought}data: [DONE]\n\n`)).toBeNull();
  });

  test("up to a limit; a longer one is dropped, and the answer continues", async () => {
    const half = "x".repeat(THINKING_LENGTH_MAX / 2 + 1);
    expect(await readThinking(chunk({ reasoning_content: half }) + end)).toMatchObject({ text: half });
    expect(
      await readThinking(chunk({ reasoning_content: half }) + chunk({ reasoning_content: half }) + end),
    ).toBeNull();
    const details = [{ type: "reasoning.encrypted", data: half, index: 0 }];
    expect(await readThinking(chunk({ reasoning_details: [...details, ...details] }) + end)).toBeNull();
  });
});
