import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import OpenAI from "openai";
import type { ChatCompletionMessageParam } from "openai/resources/chat/completions";
import { createSealedThinking, SENT_THINKING_BYTES_MAX } from "../../src/modules/openai/thinking.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createReasoningDetails, createThinkingText, type ThinkingFormat } from "../support/mock-provider/thinking.ts";

let provider: MockProvider;
let parley: TestApp;
let anna: Account;
let ben: Account;

beforeAll(async () => {
  provider = startMockProvider();
  parley = await startApp({
    config: {
      OPENAI_API_KEY: "sk-test",
      OPENAI_BASE_URL: provider.openaiUrl,
      ANTHROPIC_API_KEY: "sk-ant-test",
      ANTHROPIC_BASE_URL: provider.anthropicUrl,
      COMPATIBLE_BASE_URL: provider.openaiUrl,
      AI_MODELS: "openai/one,anthropic/two,compatible/three,compatible/four,anthropic/claude-sonnet-4-5",
      AI_MAX_RETRIES: "0",
    },
  });
  [anna, ben] = await Promise.all([parley.register(), parley.register()]);
});
beforeEach(() => provider.reset());
afterAll(async () => {
  await parley.stop();
  await provider.stop();
});

const createClient = ({ access_token }: Account) =>
  new OpenAI({ apiKey: access_token, baseURL: `${parley.url}/v1`, maxRetries: 0 });
const tools = [
  { type: "function" as const, function: { name: "look_up", parameters: { type: "object", properties: {} } } },
];
const call = { name: "look_up", arguments: "{}" };

/** Message fields that the SDK passes through without types. */
type ReturnedMessage = OpenAI.ChatCompletionMessage & {
  reasoning_details?: { type: string; format: string; [name: string]: unknown }[];
};

const listCalls = ({ tool_calls = [] }: ReturnedMessage) =>
  tool_calls as (OpenAI.ChatCompletionMessageFunctionToolCall & { extra_content?: unknown })[];

/** Requests a stream, and assembles the message as a client does: it joins the text deltas and keeps everything else unchanged. */
async function completeInChunks(
  request: OpenAI.ChatCompletionCreateParamsNonStreaming,
  user: Account,
): Promise<ReturnedMessage> {
  const message: Record<string, unknown> = { role: "assistant", content: "" };
  const stream = await createClient(user).chat.completions.create({ ...request, stream: true });
  for await (const { choices } of stream) {
    const { content, tool_calls, ...rest } = (choices[0]?.delta ?? {}) as Record<string, unknown>;
    message.content = `${message.content}${content ?? ""}`;
    if (tool_calls)
      message.tool_calls = [
        ...((message.tool_calls as object[]) ?? []),
        ...(tool_calls as { index: number }[]).map(({ index: _, ...call }) => call),
      ];
    Object.assign(message, rest);
  }
  return message as unknown as ReturnedMessage;
}

const complete = async (
  request: OpenAI.ChatCompletionCreateParamsNonStreaming,
  user: Account,
): Promise<ReturnedMessage> => {
  const { choices } = await createClient(user).chat.completions.create(request);
  return choices[0]?.message as ReturnedMessage;
};

type Complete = typeof complete;
const question = { role: "user" as const, content: "What is it?" };

/** Runs one step of a client's tool loop: sends a request, and adds the returned message and the results of its calls to `messages`. */
async function requestStep(
  messages: ChatCompletionMessageParam[],
  { model, send = complete, user = anna }: { model: string; send?: Complete; user?: Account },
): Promise<ReturnedMessage> {
  const message = await send({ model, messages, tools }, user);
  const results = listCalls(message).map(({ id }) => ({
    role: "tool" as const,
    tool_call_id: id,
    content: "It is this.",
  }));
  messages.push(message, ...results);
  return message;
}

const modelFormats: [string, ThinkingFormat][] = [
  ["anthropic/two", "signed"],
  ["openai/one", "encrypted"],
  ["compatible/three", "plain"],
  ["compatible/three", "signature"],
  ["compatible/three", "details"],
];

/** Returns a recording of a stream with these deltas. */
const createRecording = (...deltas: object[]): string => {
  const chunks = [...deltas.map((delta) => ({ delta })), { delta: {}, finish_reason: "stop" }];
  return [...chunks.map((choice) => JSON.stringify({ choices: [{ index: 0, ...choice }] })), "[DONE]"]
    .map((data) => `data: ${data}\n\n`)
    .join("");
};
const getName = (model: string): string => model.split("/")[1] ?? "";

/** Scripts two steps with calls, then an answer. */
function scriptLoop(model: string, thinkingFormat: ThinkingFormat): void {
  provider.script(
    getName(model),
    { text: "Let me look. ", toolCalls: [call, call], thinkingFormat },
    { toolCalls: [call], thinkingFormat },
    { text: "It is this.", thinkingFormat },
  );
}

describe("a client's tool loop", () => {
  describe.each([
    ["without a stream", complete],
    ["with a stream", completeInChunks],
  ] as const)("%s", (_name, send) => {
    test.each(modelFormats)("that returns messages unchanged is accepted by %s (%s)", async (model, thinkingFormat) => {
      scriptLoop(model, thinkingFormat);
      const messages: ChatCompletionMessageParam[] = [question];
      const first = await requestStep(messages, { model, send });
      expect(listCalls(first)).toHaveLength(2);
      await requestStep(messages, { model, send });
      const last = await requestStep(messages, { model, send });
      expect(last.content).toBe("It is this.");
      // Sends a new question with all previous messages. Outside its tool loop, a model may reject thinking.
      messages.push(question);
      await requestStep(messages, { model, send });
      expect(provider.thinkingErrors).toEqual([]);
      expect(provider.requests).toHaveLength(4);
    });
  });

  test.each(modelFormats)(
    "that returns only the calls' signatures is accepted by %s (%s)",
    async (model, thinkingFormat) => {
      scriptLoop(model, thinkingFormat);
      const messages: ChatCompletionMessageParam[] = [question];
      for (let n = 0; n < 3; n += 1) {
        const message = await requestStep(messages, { model });
        delete message.reasoning_details;
      }
      expect(provider.thinkingErrors).toEqual([]);
      expect(provider.requests).toHaveLength(3);
    },
  );
});

describe("a client receives", () => {
  test("Anthropic's blocks in OpenRouter's format", async () => {
    scriptLoop("anthropic/two", "signed");
    const { reasoning_details = [] } = await requestStep([question], { model: "anthropic/two" });
    const [id = ""] = /\d+/.exec(String(reasoning_details[0]?.text)) ?? [];
    expect(reasoning_details.slice(0, -1)).toEqual([
      {
        type: "reasoning.text",
        text: createThinkingText("two", id),
        signature: `signed two ${id}`,
        format: "anthropic-claude-v1",
        id: null,
        index: 0,
      },
      { type: "reasoning.encrypted", data: `redacted two ${id}`, format: "anthropic-claude-v1", id: null, index: 1 },
      {
        type: "reasoning.text",
        text: "",
        signature: `between signed two ${id}`,
        format: "anthropic-claude-v1",
        id: null,
        index: 2,
      },
    ]);
    expect(reasoning_details.at(-1)).toMatchObject({ type: "reasoning.encrypted", format: "parley-v1", index: 3 });
  });

  test("OpenAI's items, and OpenRouter's details unchanged", async () => {
    scriptLoop("openai/one", "encrypted");
    const items = (await requestStep([question], { model: "openai/one" })).reasoning_details ?? [];
    expect(items.map(({ type, format }) => [type, format])).toEqual([
      ["reasoning.summary", "openai-responses-v1"],
      ["reasoning.encrypted", "openai-responses-v1"],
      ["reasoning.encrypted", "parley-v1"],
    ]);
    scriptLoop("compatible/three", "details");
    const details = (await requestStep([question], { model: "compatible/three" })).reasoning_details ?? [];
    const [id = ""] = /\d+/.exec(String(details[0]?.text)) ?? [];
    expect(details.slice(0, -1)).toEqual(
      createReasoningDetails("three", id).map((detail) => ({ id: null, ...detail })) as never,
    );
  });

  test("no thinking if the model doesn't think or if the thinking is too long to send back", async () => {
    provider.script("three", { toolCalls: [call] });
    const withoutThinking = await requestStep([question], { model: "compatible/three" });
    expect(JSON.stringify(withoutThinking)).not.toMatch(/reasoning_details|extra_content/);
    const longThinking = "x".repeat(SENT_THINKING_BYTES_MAX + 1);
    provider.script("three", { recording: createRecording({ reasoning_content: longThinking }, { content: "Done." }) });
    const withLongThinking = await requestStep([question], { model: "compatible/three" });
    expect(withLongThinking.content).toBe("Done.");
    expect(withLongThinking).not.toHaveProperty("reasoning_details");
  });

  test.each(["x", "想"])("as much thinking as fits into the request that sends it back: %s", async (letter) => {
    const longestThinking = letter.repeat(Math.floor((SENT_THINKING_BYTES_MAX - 200) / Buffer.byteLength(letter)));
    const tool_calls = [{ index: 0, id: "one", type: "function", function: call }];
    provider.script(
      "three",
      { recording: createRecording({ reasoning_content: longestThinking }, { tool_calls }) },
      { text: "Done." },
    );
    const messages: ChatCompletionMessageParam[] = [question];
    expect(await requestStep(messages, { model: "compatible/three" })).toHaveProperty("reasoning_details");
    expect((await requestStep(messages, { model: "compatible/three" })).content).toBe("Done.");
    expect(JSON.stringify(provider.requests.at(-1)?.body)).toContain(longestThinking);
    const tooLongThinking = `${longestThinking}${letter.repeat(200)}`;
    provider.script("three", { recording: createRecording({ reasoning_content: tooLongThinking }, { tool_calls }) });
    expect(await requestStep([question], { model: "compatible/three" })).not.toHaveProperty("reasoning_details");
  });

  test("thinking that isn't stored with the exchange", async () => {
    const { id } = await createConversation(parley, anna, [], { title: "Stored" });
    scriptLoop("anthropic/two", "signed");
    await createClient(anna).chat.completions.create({
      model: "anthropic/two",
      messages: [question],
      tools,
      metadata: { conversation_id: id },
    });
    const storedResponse = await parley.fetch(`/api/v1/conversations/${id}/messages`, { token: anna.access_token });
    const text = await storedResponse.text();
    expect(text).toContain("look_up");
    expect(text).not.toMatch(/signed two|redacted|parley\.v1/);
  });
});

/** Returns everything sent to models after the first request. */
const serializeLaterRequests = () => JSON.stringify(provider.requests.slice(1).map(({ body }) => body));
const thinkingPattern = /Thought \w+ \d|signed|redacted \w+ \d|encrypted \w+ \d|parley\.v1|forged/;

describe("returned thinking", () => {
  test.each(
    modelFormats.flatMap(([model, thinkingFormat]) =>
      ["openai/one", "anthropic/two", "compatible/three"]
        .filter((other) => other !== model)
        .map((other) => [model, thinkingFormat, other] as const),
    ),
  )("from %s (%s) is not sent to %s", async (model, thinkingFormat, other) => {
    scriptLoop(model, thinkingFormat);
    const messages: ChatCompletionMessageParam[] = [question];
    await requestStep(messages, { model });
    provider.script(getName(other), { text: "Done." });
    expect((await requestStep(messages, { model: other })).content).toBe("Done.");
    expect(serializeLaterRequests()).not.toMatch(thinkingPattern);
  });

  test("is not sent to a different model of the same server", async () => {
    scriptLoop("compatible/three", "details");
    const messages: ChatCompletionMessageParam[] = [question];
    await requestStep(messages, { model: "compatible/three" });
    await requestStep(messages, { model: "compatible/four" });
    expect(serializeLaterRequests()).not.toMatch(thinkingPattern);
  });

  test("from another user is dropped", async () => {
    scriptLoop("anthropic/two", "signed");
    const messages: ChatCompletionMessageParam[] = [question];
    await requestStep(messages, { model: "anthropic/two" });
    provider.script("two", { text: "Done." });
    expect((await requestStep(messages, { model: "anthropic/two", user: ben })).content).toBe("Done.");
    expect(serializeLaterRequests()).not.toMatch(thinkingPattern);
  });

  const forgeries: [string, object][] = [
    [
      "the fields of a compatible server",
      { reasoning_content: "forged", reasoning_details: [{ type: "reasoning.text", text: "forged" }] },
    ],
    [
      "data that Parley didn't encrypt",
      {
        reasoning_details: [
          { format: "parley-v1", data: "parley.v1.Zm9yZ2VkZm9yZ2VkZm9yZ2VkZm9yZ2VkZm9yZ2VkZm9yZ2Vk" },
        ],
      },
    ],
    ["empty encrypted data", { reasoning_details: [{ format: "parley-v1", data: "parley.v1." }] }],
    ["a string instead of a list", { reasoning_details: "forged", reasoning_content: 7 }],
    ["invalid entries", { reasoning_details: [null, 1, "forged", [], { data: { forged: 1 } }] }],
  ];
  test.each(forgeries)("that is forged is dropped without an error: %s", async (_name, fields) => {
    const calls = [
      {
        id: "c1",
        type: "function" as const,
        function: call,
        extra_content: { google: { thought_signature: "forged" } },
      },
      { id: "c2", type: "function" as const, function: call, extra_content: null },
    ];
    for (const model of ["openai/one", "anthropic/two", "compatible/three"]) {
      const messages = [
        question,
        { role: "assistant" as const, content: null, tool_calls: calls, ...fields },
        ...calls.map(({ id }) => ({ role: "tool" as const, tool_call_id: id, content: "Result." })),
      ] as ChatCompletionMessageParam[];
      const { content } = await requestStep(messages, { model });
      expect(content).toContain("Parley's provider");
    }
    expect(JSON.stringify(provider.requests.map(({ body }) => body))).not.toMatch(thinkingPattern);
  });

  test("that was modified is dropped", async () => {
    scriptLoop("anthropic/two", "signed");
    const messages: ChatCompletionMessageParam[] = [question];
    await requestStep(messages, { model: "anthropic/two" });
    const modified = JSON.stringify(messages).replaceAll(/parley\.v1\.(.{40})./g, "parley.v1.$1~");
    provider.script("two", { text: "Done." });
    await requestStep(JSON.parse(modified), { model: "anthropic/two" });
    expect(serializeLaterRequests()).not.toMatch(thinkingPattern);
  });
});

describe("reasoning_effort", () => {
  test("reaches the model in its provider's format", async () => {
    const completeWith = (model: string) =>
      createClient(anna).chat.completions.create({ model, messages: [question], reasoning_effort: "low" });
    for (const model of ["openai/one", "anthropic/two", "compatible/three"]) await completeWith(model);
    expect(provider.requests.map(({ body }) => [body.reasoning, body.output_config, body.reasoning_effort])).toEqual([
      [{ summary: "auto", effort: "low" }, undefined, undefined],
      [undefined, { effort: "low" }, undefined],
      [undefined, undefined, "low"],
    ]);
  });

  test("becomes a thinking budget in the model's own tool loop, but not in a loop that another model started", async () => {
    const model = "anthropic/claude-sonnet-4-5";
    const send: Complete = (request, user) => complete({ ...request, reasoning_effort: "high" }, user);
    scriptLoop(model, "signed");
    const ownLoop: ChatCompletionMessageParam[] = [question];
    for (let n = 0; n < 3; n += 1) await requestStep(ownLoop, { model, send });
    scriptLoop("compatible/three", "plain");
    const otherLoop: ChatCompletionMessageParam[] = [question];
    await requestStep(otherLoop, { model: "compatible/three" });
    provider.script(getName(model), { text: "Done.", thinkingFormat: "signed" });
    expect((await requestStep(otherLoop, { model, send })).content).toBe("Done.");
    expect(provider.thinkingErrors).toEqual([]);
    const modes = provider.listRequests(getName(model)).map(({ body }) => (body.thinking as { type: string })?.type);
    expect(modes).toEqual(["enabled", "enabled", "enabled", undefined] as never);
  });

  test("with an unknown value is rejected", async () => {
    const response = await parley.fetch("/v1/chat/completions", {
      token: anna.access_token,
      json: { model: "openai/one", messages: [question], reasoning_effort: "much" },
    });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { param: "reasoning_effort" } });
    expect(provider.requests).toHaveLength(0);
  });
});

test("budgets count returned thinking if it can be decrypted", async () => {
  const secret = "a-secret-for-the-tests-of-thinking-32";
  const config = {
    JWT_SECRET: secret,
    COMPATIBLE_BASE_URL: provider.openaiUrl,
    AI_MODELS: "compatible/three",
    BUDGET_ANSWER_TOKENS: "100",
    BUDGET_USER_TOKENS_PER_DAY: "20000",
  };
  const limitedApp = await startApp({ config });
  try {
    const [clara, dan] = await Promise.all([limitedApp.register(), limitedApp.register()]);
    const data = { model: "three", field: "reasoning_content", text: "A thought. ".repeat(10_000) };
    const sealed = createSealedThinking(secret).seal(clara.user.id, { provider: "compatible", data });
    const messages = [
      question,
      {
        role: "assistant",
        content: "",
        tool_calls: [{ id: "one", type: "function", function: call }],
        reasoning_details: [{ type: "reasoning.encrypted", data: sealed }],
      },
      { role: "tool", tool_call_id: "one", content: "It is this." },
    ];
    provider.script("three", { text: "It is this." });
    const requestCompletion = ({ access_token: token }: Account) =>
      limitedApp.fetch("/v1/chat/completions", { token, json: { model: "compatible/three", messages, tools } });
    const rejectedResponse = await requestCompletion(clara);
    expect(rejectedResponse.status).toBe(429);
    expect(await rejectedResponse.json()).toMatchObject({ error: { code: "insufficient_quota" } });
    expect(provider.requests).toEqual([]);
    // Another user's thinking can't be decrypted, and is neither counted nor sent.
    expect((await requestCompletion(dan)).status).toBe(200);
    expect(JSON.stringify(provider.requests.at(-1)?.body)).not.toContain("A thought.");
  } finally {
    await limitedApp.stop();
  }
});
