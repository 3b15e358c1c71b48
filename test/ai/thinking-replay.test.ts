import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import type { ChatMessage, Thinking } from "../../src/ai/provider.ts";
import { THINKING_LENGTH_MAX } from "../../src/ai/thinking.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { collectRun, createRecordingObserver, createTestChain } from "./collect.ts";
import { startRejectingServer } from "./rejecting-server.ts";
import { createOpenAiError } from "./rejections.ts";

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
const createToolLoop = (thinking?: Thinking, content = ""): ChatMessage[] => [
  { role: "user", content: "What is it?" },
  { role: "assistant", content, toolCalls, thinking },
  { role: "tool", toolCallId: "call_1", content: "This." },
  { role: "tool", toolCallId: "call_2", content: "That." },
];

const signedThinking: Thinking = {
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
const encryptedThinking: Thinking = {
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
const plainThinking: Thinking = {
  provider: "compatible",
  data: { model: "model", field: "reasoning_content", text: "Thought" },
};

const runChain = (model: string, messages: ChatMessage[], provider: MockProvider = server.urls) =>
  collectRun(createTestChain(provider, [model]), { messages, options: { tools: [tool] } });

/** Returns the sent message that has the tool calls. For OpenAI, returns all input items. */
async function captureMessage(model: string, messages: ChatMessage[]): Promise<unknown> {
  server.rejectWith(() => null);
  expect((await runChain(model, messages)).text).toBe("Done.");
  const { messages: sentMessages, input } = server.bodies[0] ?? {};
  return input ?? (sentMessages as { role: string }[]).find(({ role }) => role === "assistant");
}

describe("thinking replay", () => {
  test("Anthropic's thinking blocks are sent back between the text and the tool calls", async () => {
    const call = { type: "tool_use", name: "f", input: {} };
    expect(await captureMessage("anthropic/model", createToolLoop(signedThinking, "Let me look."))).toEqual({
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

  test("Anthropic's first thinking block is sent back before the text, even if a different model started the text", async () => {
    const sent = (await captureMessage("anthropic/model", createToolLoop(signedThinking, "Well. Let me look."))) as {
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

  test("OpenAI's items are sent back with their ids, and the message with its phase", async () => {
    const call = { type: "function_call", name: "f", arguments: "{}" };
    expect(await captureMessage("openai/model", createToolLoop(encryptedThinking, "One moment."))).toEqual([
      { role: "user", content: "What is it?" },
      { type: "reasoning", id: "rs_1", summary: [], encrypted_content: "encrypted" },
      { ...call, id: "fc_1", call_id: "call_1" },
      { role: "assistant", content: "One moment.", phase: "commentary" },
      { ...call, id: "fc_2", call_id: "call_2" },
      { type: "function_call_output", call_id: "call_1", output: "This." },
      { type: "function_call_output", call_id: "call_2", output: "That." },
    ]);
  });

  test("OpenAI's reasoning isn't sent back if it is the last item", async () => {
    const { data } = encryptedThinking as { data: { items: object[] } };
    const items = [...data.items, { type: "reasoning", id: "rs_2", summary: [], encrypted_content: "last" }];
    const sentItems = await captureMessage(
      "openai/model",
      createToolLoop({ provider: "openai", data: { model: "model", items } }),
    );
    expect(JSON.stringify(sentItems)).not.toContain("rs_2");
  });

  test("a compatible server's thinking is sent back in its original field, even to a different model", async () => {
    expect(await captureMessage("compatible/model", createToolLoop(plainThinking))).toMatchObject({
      reasoning_content: "Thought",
    });
    expect(await captureMessage("compatible/other", createToolLoop(plainThinking))).toMatchObject({
      reasoning_content: "Thought",
    });
    const vllmThinking: Thinking = {
      provider: "compatible",
      data: { model: "model", field: "reasoning", text: "Thought" },
    };
    const sent = (await captureMessage("compatible/model", createToolLoop(vllmThinking))) as object;
    expect(sent).toMatchObject({ reasoning: "Thought" });
    expect(sent).not.toHaveProperty("reasoning_content");
  });

  test.each([
    ["anthropic/other", signedThinking],
    ["openai/other", encryptedThinking],
    ["anthropic/model", encryptedThinking],
    ["openai/model", plainThinking],
    ["compatible/model", { ...plainThinking, provider: "other-server" }],
    ["compatible/model", { provider: "compatible", data: null }],
    ["anthropic/model", { provider: "anthropic", data: { model: "model", blocks: "none" } }],
    ["openai/model", { provider: "openai", data: { model: "model", items: [null, 1, {}] } }],
  ] as [string, Thinking][])(
    "thinking isn't sent to %s if it is from a different model or server, or in a different format",
    async (model, thinking) => {
      const sentItems = await captureMessage(model, createToolLoop(thinking, "Let me look."));
      expect(JSON.stringify(sentItems)).not.toMatch(/Thought|signed|encrypted|redacted/);
    },
  );

  test("a thinking budget is set only if the tool loop started with thinking", async () => {
    const model = "anthropic/claude-sonnet-4-5";
    const ownThinking = { ...signedThinking, data: { ...(signedThinking.data as object), model: "claude-sonnet-4-5" } };
    const laterSteps: ChatMessage[] = [
      { role: "assistant", content: "", toolCalls: [{ id: "call_3", name: "f", arguments: "{}" }] },
      { role: "tool", toolCallId: "call_3", content: "Later." },
    ];
    const loopWithThinking = createToolLoop(ownThinking, "Let me look.");
    for (const [messages, isSet] of [
      [createToolLoop(undefined, "Let me look."), false],
      [loopWithThinking, true],
      [[...loopWithThinking, ...laterSteps], true],
      [
        [
          ...loopWithThinking,
          { role: "assistant", content: "It is this." },
          { role: "user", content: "And?" },
          ...laterSteps,
        ],
        false,
      ],
    ] as [ChatMessage[], boolean][]) {
      server.rejectWith(() => null);
      const options = { tools: [tool], reasoningEffort: "high" as const };
      await collectRun(createTestChain(server.urls, [model]), { messages, options });
      expect("thinking" in (server.bodies[0] ?? {})).toBe(isSet);
      expect(JSON.stringify(server.bodies[0]).includes('"signature":"signed"')).toBe(isSet);
    }
  });
});

describe("within one attempt", () => {
  const hasText = (body: object, word: string) => JSON.stringify(body).includes(word);
  const createAnthropicError = (message: string) => ({
    type: "error",
    error: { type: "invalid_request_error", message },
  });

  test.each([
    [
      "anthropic/model",
      signedThinking,
      "signed",
      createAnthropicError(
        "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a different conversation. Remove the block.",
      ),
    ],
    [
      "openai/model",
      encryptedThinking,
      "rs_1",
      createOpenAiError(
        "The encrypted content for item rs_1 could not be verified.",
        null,
        "invalid_encrypted_content",
      ),
    ],
    [
      "openai/model",
      encryptedThinking,
      "rs_1",
      createOpenAiError("Item with id 'rs_1' not found. Items are not persisted when `store` is set to false."),
    ],
    [
      "compatible/model",
      plainThinking,
      "Thought",
      createOpenAiError("'messages.1' : property 'reasoning_content' is unsupported"),
    ],
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
    "rejected thinking is omitted for %s",
    async (model, thinking, word, body) => {
      const { observer, events } = createRecordingObserver();
      // The rejection is a JSON response, or an event in a successful response.
      for (const status of [400, 200]) {
        if (status === 200 && Array.isArray(body)) continue;
        server.rejectWith((sent) => (hasText(sent, word) ? { status, body } : null));
        const chain = createTestChain(server.urls, [model, "anthropic/spare"], { observer });
        const { text, end } = await collectRun(chain, {
          messages: createToolLoop(thinking),
          options: { tools: [tool] },
        });
        expect([text, end.type === "finish" && end.model, server.bodies.length]).toEqual(["Done.", model, 2]);
      }
      expect(events.filter(([kind]) => kind === "failover")).toEqual([]);
    },
  );

  test("a request without the rejected thinking is tried only once, then the next model is tried", async () => {
    const body = createAnthropicError("messages.1.content.0: Invalid `signature` in `thinking` block");
    server.rejectWith(({ model }) => (model === "model" ? { status: 400, body } : null));
    const chain = createTestChain(server.urls, ["anthropic/model", "anthropic/spare"]);
    const { end } = await collectRun(chain, { messages: createToolLoop(signedThinking), options: { tools: [tool] } });
    expect([end.model, server.bodies.length]).toEqual(["anthropic/spare", 3]);
  });

  test("missing thinking becomes an empty field for DeepSeek if a different model made the calls", async () => {
    server.rejectWith((sent) =>
      hasText(sent, '"reasoning_content":""')
        ? null
        : {
            status: 400,
            body: createOpenAiError("The `reasoning_content` in the thinking mode must be passed back to the API."),
          },
    );
    expect((await runChain("compatible/model", createToolLoop())).text).toBe("Done.");
    expect(server.bodies).toHaveLength(2);
  });

  test("a missing signature becomes a marker for Gemini if a different model made the calls", async () => {
    const message = "Function call is missing a thought_signature in functionCall parts.";
    server.rejectWith((sent) =>
      hasText(sent, "skip_thought_signature_validator")
        ? null
        : { status: 400, body: [{ error: { code: 400, message } }] },
    );
    expect((await runChain("compatible/model", createToolLoop())).text).toBe("Done.");
    const sentMessages = (server.bodies[1]?.messages ?? []) as { tool_calls?: { extra_content?: unknown }[] }[];
    expect(sentMessages[1]?.tool_calls?.map(({ extra_content }) => extra_content)).toEqual([
      { google: { thought_signature: "skip_thought_signature_validator" } },
      undefined,
    ]);
  });
});

const formatChunk = (delta: object, finish_reason: string | null = null) =>
  `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason }] })}\n\n`;
const toolCall = { index: 0, id: "call_1", type: "function", function: { name: "f", arguments: "{}" } };

/** Returns the thinking that is read from a chat server's response. */
async function extractThinking(recording: string): Promise<unknown> {
  mockProvider.script("model", { recording });
  const { end } = await runChain("compatible/model", [{ role: "user", content: "?" }], mockProvider);
  if (end.type !== "finish") throw new Error(JSON.stringify(end));
  return (end.thinking?.data as object) ?? null;
}

describe("a chat server's thinking is read", () => {
  const end = `${formatChunk({ tool_calls: [toolCall] }, "tool_calls")}data: [DONE]\n\n`;

  test("from either field, but only once if a server sends both", async () => {
    expect(await extractThinking(formatChunk({ reasoning: "One " }) + formatChunk({ reasoning: "two" }) + end)).toEqual(
      {
        model: "model",
        field: "reasoning",
        text: "One two",
      },
    );
    expect(await extractThinking(formatChunk({ reasoning_content: "" }) + end)).toMatchObject({ text: "" });
    expect(await extractThinking(formatChunk({ reasoning_content: "Both", reasoning: "Both" }) + end)).toMatchObject({
      field: "reasoning_content",
      text: "Both",
    });
    expect(await extractThinking(formatChunk({ reasoning_content: null }) + end)).toBeNull();
  });

  test("from a JSON document", async () => {
    const message = { role: "assistant", content: null, reasoning_content: "Whole", tool_calls: [toolCall] };
    const document = JSON.stringify({ choices: [{ index: 0, message, finish_reason: "tool_calls" }] });
    expect(await extractThinking(document)).toMatchObject({ field: "reasoning_content", text: "Whole" });
  });

  test("with Gemini's signatures of calls and text", async () => {
    const extra_content = { google: { thought_signature: "signed" } };
    const separateSignature =
      formatChunk({ tool_calls: [toolCall] }) +
      formatChunk({ tool_calls: [{ index: 0, extra_content }] }, "tool_calls");
    expect(await extractThinking(`${separateSignature}data: [DONE]\n\n`)).toMatchObject({
      extras: [["call_1", extra_content]],
    });
    const signedText = formatChunk({ content: "Text." }) + formatChunk({ content: "", extra_content }, "stop");
    expect(await extractThinking(`${signedText}data: [DONE]\n\n`)).toEqual({ model: "model", extra: extra_content });
    const thoughtText = formatChunk({ content: "Text.", extra_content: { google: { thought: true } } }, "stop");
    expect(await extractThinking(`${thoughtText}data: [DONE]\n\n`)).toBeNull();
  });

  test("completely up to a limit, and is dropped if it is longer", async () => {
    const half = "x".repeat(THINKING_LENGTH_MAX / 2 + 1);
    expect(await extractThinking(formatChunk({ reasoning_content: half }) + end)).toMatchObject({ text: half });
    expect(
      await extractThinking(formatChunk({ reasoning_content: half }) + formatChunk({ reasoning_content: half }) + end),
    ).toBeNull();
    const details = [{ type: "reasoning.encrypted", data: half, index: 0 }];
    expect(await extractThinking(formatChunk({ reasoning_details: [...details, ...details] }) + end)).toBeNull();
  });
});
