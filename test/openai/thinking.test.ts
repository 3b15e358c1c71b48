import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import OpenAI from "openai";
import type { ChatCompletionMessageParam } from "openai/resources/chat/completions";
import { createSealedThinking, SENT_THINKING_BYTES_MAX } from "../../src/modules/openai/thinking.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { detailsOf, type ThinkingFormat, thoughtOf } from "../support/mock-provider/thoughts.ts";

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

const connect = ({ access_token }: Account) =>
  new OpenAI({ apiKey: access_token, baseURL: `${parley.url}/v1`, maxRetries: 0 });
const tools = [
  { type: "function" as const, function: { name: "look_up", parameters: { type: "object", properties: {} } } },
];
const call = { name: "look_up", arguments: "{}" };

/** Message fields that the SDK passes through without types. */
type Returned = OpenAI.ChatCompletionMessage & {
  reasoning_details?: { type: string; format: string; [name: string]: unknown }[];
};

const callsOf = ({ tool_calls = [] }: Returned) =>
  tool_calls as (OpenAI.ChatCompletionMessageFunctionToolCall & { extra_content?: unknown })[];

/** Assembles the message from deltas as a client does: texts and arguments joined, everything else unchanged. */
async function askInChunks(request: OpenAI.ChatCompletionCreateParamsNonStreaming, user: Account): Promise<Returned> {
  const message: Record<string, unknown> = { role: "assistant", content: "" };
  const stream = await connect(user).chat.completions.create({ ...request, stream: true });
  for await (const { choices } of stream) {
    const { content, tool_calls, ...rest } = (choices[0]?.delta ?? {}) as Record<string, unknown>;
    message.content = `${message.content}${content ?? ""}`;
    if (tool_calls)
      message.tool_calls = [
        ...((message.tool_calls as object[]) ?? []),
        ...(tool_calls as { index: number }[]).map(({ index: _, ...made }) => made),
      ];
    Object.assign(message, rest);
  }
  return message as unknown as Returned;
}

const askWhole = async (request: OpenAI.ChatCompletionCreateParamsNonStreaming, user: Account): Promise<Returned> => {
  const { choices } = await connect(user).chat.completions.create(request);
  return choices[0]?.message as Returned;
};

type Ask = typeof askWhole;
const question = { role: "user" as const, content: "What is it?" };

/** One step of a client's loop: sends a request and responds to each call. */
async function step(
  messages: ChatCompletionMessageParam[],
  { model, ask = askWhole, user = anna }: { model: string; ask?: Ask; user?: Account },
): Promise<Returned> {
  const message = await ask({ model, messages, tools }, user);
  const results = callsOf(message).map(({ id }) => ({
    role: "tool" as const,
    tool_call_id: id,
    content: "It is this.",
  }));
  messages.push(message, ...results);
  return message;
}

const kinds: [string, ThinkingFormat][] = [
  ["anthropic/two", "signed"],
  ["openai/one", "encrypted"],
  ["compatible/three", "plain"],
  ["compatible/three", "signature"],
  ["compatible/three", "details"],
];
/** A stream of these deltas. */
const record = (...deltas: object[]): string => {
  const chunks = [...deltas.map((delta) => ({ delta })), { delta: {}, finish_reason: "stop" }];
  return [...chunks.map((choice) => JSON.stringify({ choices: [{ index: 0, ...choice }] })), "[DONE]"]
    .map((data) => `data: ${data}\n\n`)
    .join("");
};
const nameOf = (model: string): string => model.split("/")[1] ?? "";

/** Two steps with calls, then an answer. */
function scriptLoop(model: string, thought: ThinkingFormat): void {
  provider.script(
    nameOf(model),
    { text: "Let me look. ", toolCalls: [call, call], thought },
    { toolCalls: [call], thought },
    { text: "It is this.", thought },
  );
}

describe("a loop of the openai SDK that returns its messages unchanged", () => {
  describe.each([
    ["whole", askWhole],
    ["in chunks", askInChunks],
  ] as const)("%s", (_name, ask) => {
    test.each(kinds)("%s, %s", async (model, thought) => {
      scriptLoop(model, thought);
      const messages: ChatCompletionMessageParam[] = [question];
      const first = await step(messages, { model, ask });
      expect(callsOf(first)).toHaveLength(2);
      await step(messages, { model, ask });
      const last = await step(messages, { model, ask });
      expect(last.content).toBe("It is this.");
      // A new turn with all previous messages: outside of its loop a model may reject its thinking.
      messages.push(question);
      await step(messages, { model, ask });
      expect(provider.refusals).toEqual([]);
      expect(provider.requests).toHaveLength(4);
    });
  });

  test.each(kinds)("%s, %s: also with a client that only keeps the signature of its calls", async (model, thought) => {
    scriptLoop(model, thought);
    const messages: ChatCompletionMessageParam[] = [question];
    for (let n = 0; n < 3; n += 1) {
      const message = await step(messages, { model });
      delete message.reasoning_details;
    }
    expect(provider.refusals).toEqual([]);
    expect(provider.requests).toHaveLength(3);
  });
});

describe("a client receives", () => {
  test("Anthropic's blocks in OpenRouter's format", async () => {
    scriptLoop("anthropic/two", "signed");
    const { reasoning_details = [] } = await step([question], { model: "anthropic/two" });
    const [id = ""] = /\d+/.exec(String(reasoning_details[0]?.text)) ?? [];
    expect(reasoning_details.slice(0, -1)).toEqual([
      {
        type: "reasoning.text",
        text: thoughtOf("two", id),
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
    const items = (await step([question], { model: "openai/one" })).reasoning_details ?? [];
    expect(items.map(({ type, format }) => [type, format])).toEqual([
      ["reasoning.summary", "openai-responses-v1"],
      ["reasoning.encrypted", "openai-responses-v1"],
      ["reasoning.encrypted", "parley-v1"],
    ]);
    scriptLoop("compatible/three", "details");
    const own = (await step([question], { model: "compatible/three" })).reasoning_details ?? [];
    const [id = ""] = /\d+/.exec(String(own[0]?.text)) ?? [];
    expect(own.slice(0, -1)).toEqual(detailsOf("three", id).map((detail) => ({ id: null, ...detail })) as never);
  });

  test("nothing from models without thinking, and no more than it can send back", async () => {
    provider.script("three", { toolCalls: [call] });
    const none = await step([question], { model: "compatible/three" });
    expect(JSON.stringify(none)).not.toMatch(/reasoning_details|extra_content/);
    const long = "x".repeat(SENT_THINKING_BYTES_MAX + 1);
    provider.script("three", { recording: record({ reasoning_content: long }, { content: "Done." }) });
    const much = await step([question], { model: "compatible/three" });
    expect(much.content).toBe("Done.");
    expect(much).not.toHaveProperty("reasoning_details");
  });

  test.each(["x", "想"])("a message with the maximum amount can be sent back: %s", async (letter) => {
    const most = letter.repeat(Math.floor((SENT_THINKING_BYTES_MAX - 200) / Buffer.byteLength(letter)));
    const tool_calls = [{ index: 0, id: "one", type: "function", function: call }];
    provider.script("three", { recording: record({ reasoning_content: most }, { tool_calls }) }, { text: "Done." });
    const messages: ChatCompletionMessageParam[] = [question];
    expect(await step(messages, { model: "compatible/three" })).toHaveProperty("reasoning_details");
    expect((await step(messages, { model: "compatible/three" })).content).toBe("Done.");
    expect(JSON.stringify(provider.requests.at(-1)?.body)).toContain(most);
    const more = `${most}${letter.repeat(200)}`;
    provider.script("three", { recording: record({ reasoning_content: more }, { tool_calls }) });
    expect(await step([question], { model: "compatible/three" })).not.toHaveProperty("reasoning_details");
  });

  test("a stored exchange has none of it", async () => {
    const { id } = await createConversation(parley, anna, [], { title: "Stored" });
    scriptLoop("anthropic/two", "signed");
    await connect(anna).chat.completions.create({
      model: "anthropic/two",
      messages: [question],
      tools,
      metadata: { conversation_id: id },
    });
    const stored = await parley.fetch(`/api/v1/conversations/${id}/messages`, { token: anna.access_token });
    const text = await stored.text();
    expect(text).toContain("look_up");
    expect(text).not.toMatch(/signed two|redacted|parley\.v1/);
  });
});

/** Everything sent to models after the first request. */
const sentLater = () => JSON.stringify(provider.requests.slice(1).map(({ body }) => body));
const traces = /Thought \w+ \d|signed|redacted \w+ \d|encrypted \w+ \d|parley\.v1|forged/;

describe("thinking goes only to the model that produced it", () => {
  test.each(
    kinds.flatMap(([model, thought]) =>
      ["openai/one", "anthropic/two", "compatible/three"]
        .filter((other) => other !== model)
        .map((other) => [model, thought, other] as const),
    ),
  )("%s, %s: not to %s", async (model, thought, other) => {
    scriptLoop(model, thought);
    const messages: ChatCompletionMessageParam[] = [question];
    await step(messages, { model });
    provider.script(nameOf(other), { text: "Done." });
    expect((await step(messages, { model: other })).content).toBe("Done.");
    expect(sentLater()).not.toMatch(traces);
  });

  test("nor one signed for another model of the same server", async () => {
    scriptLoop("compatible/three", "details");
    const messages: ChatCompletionMessageParam[] = [question];
    await step(messages, { model: "compatible/three" });
    await step(messages, { model: "compatible/four" });
    expect(sentLater()).not.toMatch(traces);
  });

  test("of another user is dropped", async () => {
    scriptLoop("anthropic/two", "signed");
    const messages: ChatCompletionMessageParam[] = [question];
    await step(messages, { model: "anthropic/two" });
    provider.script("two", { text: "Done." });
    expect((await step(messages, { model: "anthropic/two", user: ben })).content).toBe("Done.");
    expect(sentLater()).not.toMatch(traces);
  });

  const forgeries: [string, object][] = [
    [
      "the fields of a compatible server",
      { reasoning_content: "forged", reasoning_details: [{ type: "reasoning.text", text: "forged" }] },
    ],
    [
      "data encrypted by someone else",
      {
        reasoning_details: [
          { format: "parley-v1", data: "parley.v1.Zm9yZ2VkZm9yZ2VkZm9yZ2VkZm9yZ2VkZm9yZ2VkZm9yZ2Vk" },
        ],
      },
    ],
    ["empty encrypted data", { reasoning_details: [{ format: "parley-v1", data: "parley.v1." }] }],
    ["no list", { reasoning_details: "forged", reasoning_content: 7 }],
    ["invalid entries", { reasoning_details: [null, 1, "forged", [], { data: { forged: 1 } }] }],
  ];
  test.each(forgeries)("is dropped without an error if forged: %s", async (_name, fields) => {
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
      const { content } = await step(messages, { model });
      expect(content).toContain("Parley's provider");
    }
    expect(JSON.stringify(provider.requests.map(({ body }) => body))).not.toMatch(traces);
  });

  test("modified encrypted data is dropped", async () => {
    scriptLoop("anthropic/two", "signed");
    const messages: ChatCompletionMessageParam[] = [question];
    await step(messages, { model: "anthropic/two" });
    const turn = JSON.stringify(messages).replaceAll(/parley\.v1\.(.{40})./g, "parley.v1.$1~");
    provider.script("two", { text: "Done." });
    await step(JSON.parse(turn), { model: "anthropic/two" });
    expect(sentLater()).not.toMatch(traces);
  });
});

describe("reasoning_effort", () => {
  test("reaches the model in its provider's format", async () => {
    const ask = (model: string) =>
      connect(anna).chat.completions.create({ model, messages: [question], reasoning_effort: "low" });
    for (const model of ["openai/one", "anthropic/two", "compatible/three"]) await ask(model);
    expect(provider.requests.map(({ body }) => [body.reasoning, body.output_config, body.reasoning_effort])).toEqual([
      [{ summary: "auto", effort: "low" }, undefined, undefined],
      [undefined, { effort: "low" }, undefined],
      [undefined, undefined, "low"],
    ]);
  });

  test("as a budget: in a loop of the model itself, not where another one began it", async () => {
    const model = "anthropic/claude-sonnet-4-5";
    const askWithEffort: Ask = (request, user) => askWhole({ ...request, reasoning_effort: "high" }, user);
    scriptLoop(model, "signed");
    const own: ChatCompletionMessageParam[] = [question];
    for (let n = 0; n < 3; n += 1) await step(own, { model, ask: askWithEffort });
    scriptLoop("compatible/three", "plain");
    const other: ChatCompletionMessageParam[] = [question];
    await step(other, { model: "compatible/three" });
    provider.script(nameOf(model), { text: "Done.", thought: "signed" });
    expect((await step(other, { model, ask: askWithEffort })).content).toBe("Done.");
    expect(provider.refusals).toEqual([]);
    const modes = provider.requestsOf(nameOf(model)).map(({ body }) => (body.thinking as { type: string })?.type);
    expect(modes).toEqual(["enabled", "enabled", "enabled", undefined] as never);
  });

  test("with an unknown value is refused", async () => {
    const response = await parley.fetch("/v1/chat/completions", {
      token: anna.access_token,
      json: { model: "openai/one", messages: [question], reasoning_effort: "much" },
    });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { param: "reasoning_effort" } });
    expect(provider.requests).toHaveLength(0);
  });
});

test("budgets count the thinking that a client returns, if it can be decrypted", async () => {
  const secret = "a-secret-for-the-tests-of-thinking-32";
  const config = {
    JWT_SECRET: secret,
    COMPATIBLE_BASE_URL: provider.openaiUrl,
    AI_MODELS: "compatible/three",
    BUDGET_ANSWER_TOKENS: "100",
    BUDGET_USER_TOKENS_PER_DAY: "20000",
  };
  const limited = await startApp({ config });
  try {
    const [clara, dan] = await Promise.all([limited.register(), limited.register()]);
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
    const ask = ({ access_token: token }: Account) =>
      limited.fetch("/v1/chat/completions", { token, json: { model: "compatible/three", messages, tools } });
    const refused = await ask(clara);
    expect(refused.status).toBe(429);
    expect(await refused.json()).toMatchObject({ error: { code: "insufficient_quota" } });
    expect(provider.requests).toEqual([]);
    // Another's is only text that is not passed on.
    expect((await ask(dan)).status).toBe(200);
    expect(JSON.stringify(provider.requests.at(-1)?.body)).not.toContain("A thought.");
  } finally {
    await limited.stop();
  }
});
