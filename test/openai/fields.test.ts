import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { createKey } from "../api-keys/create-key.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";

let provider: MockProvider;
let parley: TestApp;
let anna: Account;

beforeAll(async () => {
  provider = startMockProvider();
  parley = await startApp({
    config: {
      OPENAI_API_KEY: "sk-test",
      OPENAI_BASE_URL: provider.openaiUrl,
      ANTHROPIC_API_KEY: "sk-ant-test",
      ANTHROPIC_BASE_URL: provider.anthropicUrl,
      COMPATIBLE_BASE_URL: provider.openaiUrl,
      AI_PROVIDERS: `local=${provider.openaiUrl}`,
      AI_MODELS: "openai/one,anthropic/two,compatible/three,local/four",
      AI_MAX_RETRIES: "0",
    },
  });
  anna = await parley.register();
});
beforeEach(() => provider.reset());
afterAll(async () => {
  await parley.stop();
  await provider.stop();
});

type Completion = {
  status: number;
  error: { type: string; param: string | null; code: string; message: string } | null;
  text: string;
  model: string;
};

async function complete(body: Record<string, unknown>, token = anna.access_token): Promise<Completion> {
  const json = { model: "compatible/three", messages: [{ role: "user", content: "Hello" }], ...body };
  const response = await parley.fetch("/v1/chat/completions", { token, json });
  const {
    error = null,
    choices,
    model,
  } = (await response.json()) as {
    error?: Completion["error"];
    choices?: { message: { content: string } }[];
    model: string;
  };
  return { status: response.status, error, text: choices?.[0]?.message.content ?? "", model };
}

const getLastBody = () => provider.requests.at(-1)?.body ?? {};
const withUserFields = (fields: object) => ({ messages: [{ role: "user", content: "Hello", ...fields }] });
const withAssistantFields = (fields: object) => ({
  messages: [
    { role: "user", content: "Hello" },
    { role: "assistant", content: "Hi", ...fields },
    { role: "user", content: "Go on." },
  ],
});
const toolCall = { id: "c1", type: "function", function: { name: "f", arguments: "{}" } };
const createTool = (name: string, fields: object = {}) => ({ type: "function", function: { name }, ...fields });

describe("a request with an unsupported field or value", () => {
  test.each<[string, Record<string, unknown>, string, string]>([
    ["an unknown field", { foo: 1 }, "foo", "unknown_parameter"],
    ["a field named like a property of every object", { constructor: 1 }, "constructor", "unknown_parameter"],
    ["a field with special characters", { "a/b\n": 1 }, '"a/b\\n"', "unknown_parameter"],
    ["a field of a compatible server", { num_ctx: 4096 }, "num_ctx", "unknown_parameter"],
    ["two choices", { n: 2 }, "n", "unsupported_value"],
    ["a priority service tier", { service_tier: "priority" }, "service_tier", "unsupported_value"],
    ["an audio modality", { modalities: ["text", "audio"] }, "modalities", "unsupported_value"],
    ["log probabilities", { logprobs: true }, "logprobs", "unsupported_parameter"],
    ["top log probabilities", { top_logprobs: 3 }, "top_logprobs", "unsupported_value"],
    ["audio output", { audio: { voice: "ash", format: "mp3" } }, "audio", "unsupported_parameter"],
    ["a stored completion", { store: true }, "store", "unsupported_parameter"],
    ["a predicted output", { prediction: { type: "content", content: "x" } }, "prediction", "unsupported_parameter"],
    [
      "web search",
      { web_search_options: { search_context_size: "low" } },
      "web_search_options",
      "unsupported_parameter",
    ],
    ["functions", { functions: [{ name: "f" }] }, "functions", "unsupported_parameter"],
    ["a deprecated function_call", { function_call: { name: "f" } }, "function_call", "unsupported_value"],
    ["alternative models", { models: ["openai/gpt-5-pro"] }, "models", "unsupported_parameter"],
    ["provider routing", { provider: { order: ["x"] } }, "provider", "unsupported_parameter"],
    ["an extra_body field", { extra_body: { top_k: 1 } }, "extra_body", "unsupported_parameter"],
    ["an unknown stream option", { stream_options: { foo: true } }, "stream_options.foo", "unknown_parameter"],
    ["an unknown field of a message", withUserFields({ foo: 1 }), "messages[0].foo", "unknown_parameter"],
    [
      "tool calls in a user message",
      withUserFields({ tool_calls: [toolCall] }),
      "messages[0].tool_calls",
      "unknown_parameter",
    ],
    ["annotations", withAssistantFields({ annotations: [{}] }), "messages[1].annotations", "unsupported_parameter"],
    ["an audio message", withAssistantFields({ audio: { id: "a" } }), "messages[1].audio", "unsupported_parameter"],
    [
      "a deprecated function_call in a message",
      withAssistantFields({ function_call: { name: "f" } }),
      "messages[1].function_call",
      "unsupported_parameter",
    ],
    [
      "an unknown field of a content part",
      withUserFields({ content: [{ type: "text", text: "x", foo: 1 }] }),
      "messages[0].content[0].foo",
      "unknown_parameter",
    ],
    [
      "an image",
      withUserFields({ content: [{ type: "image_url", image_url: {} }] }),
      "messages[0].content[0].type",
      "invalid",
    ],
    ["a file", withUserFields({ content: [{ type: "file", file: {} }] }), "messages[0].content[0].type", "invalid"],
    ["a deprecated function message", { messages: [{ role: "function", name: "f" }] }, "messages[0].role", "invalid"],
    ["a custom tool", { tools: [{ type: "custom", custom: { name: "f" } }] }, "tools[0].custom", "unknown_parameter"],
    ["an unknown field of a tool", { tools: [createTool("f", { foo: 1 })] }, "tools[0].foo", "unknown_parameter"],
    [
      "a custom chat template",
      { chat_template_kwargs: { chat_template: "{{ x }}" } },
      "chat_template_kwargs.chat_template",
      "invalid",
    ],
    ["a string instead of a number", { top_k: "many" }, "top_k", "invalid"],
    ["a penalty out of range", { frequency_penalty: 3 }, "frequency_penalty", "invalid"],
  ])("is rejected with 400: %s", async (_name, body, param, code) => {
    const { status, error } = await complete(body);
    expect([status, error?.param, error?.code, error?.type]).toEqual([400, param, code, "invalid_request_error"]);
    expect(error?.message).not.toBe("");
    expect(provider.requests).toEqual([]);
  });
});

test("fields with null or default values are treated as absent", async () => {
  const absentFields = {
    logprobs: false,
    top_logprobs: 0,
    logit_bias: {},
    n: 1,
    frequency_penalty: 0,
    presence_penalty: 0,
    store: false,
    service_tier: "auto",
    modalities: ["text"],
    functions: [],
    function_call: "auto",
    audio: null,
    foo: null,
    stop: null,
    stream_options: null,
    tool_choice: null,
    tools: [{ ...createTool("f", { foo: null }), function: { name: "f", strict: null, foo: null } }],
    messages: [
      { role: "user", content: [{ type: "text", text: "Hello", cache_control: null }], name: null },
      {
        role: "assistant",
        content: null,
        refusal: null,
        annotations: [],
        audio: null,
        function_call: null,
        tool_calls: [{ ...toolCall, index: 0, extra_content: null }],
      },
      { role: "tool", tool_call_id: "c1", content: "42", name: null },
    ],
  };
  for (const model of ["openai/one", "anthropic/two", "compatible/three"])
    expect(await complete({ ...absentFields, model })).toMatchObject({ status: 200, error: null });
  expect(getLastBody()).not.toContainAnyKeys([
    "n",
    "logprobs",
    "frequency_penalty",
    "store",
    "service_tier",
    "logit_bias",
  ]);
});

describe("an optional field", () => {
  const forwardedFields = {
    seed: 7,
    frequency_penalty: 0.5,
    presence_penalty: -0.5,
    logit_bias: { "50256": -100 },
    verbosity: "low",
    top_k: 40,
    top_a: 0.1,
    min_p: 0.05,
    repetition_penalty: 1.1,
    thinking: { type: "disabled" },
    enable_thinking: false,
    chat_template_kwargs: { enable_thinking: false },
    reasoning: { effort: "low" },
    include_reasoning: false,
    user: "u1",
    safety_identifier: "s1",
    prompt_cache_key: "k1",
  };

  test.each(["compatible/three", "local/four"])("reaches a compatible server unchanged: %s", async (model) => {
    expect(await complete({ ...forwardedFields, model })).toMatchObject({ status: 200, model });
    expect(getLastBody()).toMatchObject(forwardedFields);
  });

  const hints = { seed: 7, user: "u1", safety_identifier: "s1", prompt_cache_key: "k1" };
  test("reaches OpenAI under its Responses API name if that API has the field", async () => {
    expect((await complete({ ...hints, verbosity: "low", model: "openai/one" })).status).toBe(200);
    const { seed: _, ...supportedHints } = hints;
    expect(getLastBody()).toMatchObject({ ...supportedHints, text: { verbosity: "low" } });
    expect(getLastBody()).not.toContainAnyKeys(["seed", "verbosity"]);
  });

  test("reaches Anthropic if the Messages API has the field", async () => {
    expect((await complete({ ...hints, top_k: 40, model: "anthropic/two" })).status).toBe(200);
    expect(getLastBody()).toMatchObject({ top_k: 40 });
    expect(getLastBody()).not.toContainAnyKeys(Object.keys(hints));
  });

  test.each([
    ["openai/one", "top_k"],
    ["openai/one", "frequency_penalty"],
    ["openai/one", "thinking"],
    ["anthropic/two", "verbosity"],
    ["anthropic/two", "logit_bias"],
    ["anthropic/two", "enable_thinking"],
  ] as const)("is rejected with 400 for %s if its provider doesn't support the field: %s", async (model, field) => {
    const { status, error } = await complete({ model, [field]: forwardedFields[field] });
    expect([status, error?.param, error?.code]).toEqual([400, field, "unsupported_parameter"]);
    expect(error?.message).toContain(model);
    expect(provider.requests).toEqual([]);
  });

  test("limits failover to models whose provider supports the field too", async () => {
    provider.script("three", { fault: "status", status: 500 });
    expect(await complete({ min_p: 0.05 })).toMatchObject({ status: 200, model: "local/four" });
    expect(getLastBody()).toMatchObject({ min_p: 0.05 });
    expect(provider.requests.map(({ model }) => model)).toEqual(["three", "four"]);
    provider.script("four", { fault: "status", status: 500 });
    expect((await complete({ min_p: 0.05 })).status).toBe(503);
    expect(provider.requests.map(({ model }) => model)).not.toContain("one");
  });
});

describe("mapped fields", () => {
  test("`name` is shown to the model", async () => {
    await complete(withUserFields({ name: "Ada" }));
    expect(JSON.stringify(getLastBody())).toContain("Ada: Hello");
  });

  test("`allowed_tools` hides other tools from the model", async () => {
    const createToolChoice = (mode: string, ...names: string[]) => ({
      tools: [createTool("f"), createTool("g"), createTool("h")],
      tool_choice: { type: "allowed_tools", allowed_tools: { mode, tools: names.map((name) => createTool(name)) } },
    });
    expect((await complete(createToolChoice("required", "f", "h"))).status).toBe(200);
    const { tools, tool_choice } = getLastBody() as { tools: { function: { name: string } }[]; tool_choice: string };
    expect([tools.map((entry) => entry.function.name), tool_choice]).toEqual([["f", "h"], "required"]);
    const unknownToolResponse = await complete(createToolChoice("auto", "x"));
    expect([unknownToolResponse.status, unknownToolResponse.error?.param]).toEqual([
      400,
      "tool_choice.allowed_tools.tools[0].function.name",
    ]);
  });

  test.each(["openai/one", "anthropic/two", "compatible/three"])(
    "`stop` ends an answer from %s before the stop sequence",
    async (model) => {
      const name = model.split("/")[1] ?? "";
      provider.script(name, { pieces: ["One ", "two E", "N", "D three"] });
      expect(await complete({ model, stop: ["END", "never"] })).toMatchObject({ status: 200, text: "One two ", model });
      provider.script(name, { pieces: ["One ", "two E", "N"] });
      expect((await complete({ model, stop: "END" })).text).toBe("One two EN");
      provider.script(name, { pieces: ["END", " one"] });
      expect(await complete({ model, stop: "END" })).toMatchObject({ status: 200, text: "", model });
    },
  );
});

test("an API key without the required scope is rejected before the fields are validated", async () => {
  const { key } = await createKey(parley, anna, { scopes: ["messages:write"] });
  const { status, error } = await complete({ foo: 1 }, key);
  expect([status, error?.type]).toEqual([403, "permission_error"]);
});
