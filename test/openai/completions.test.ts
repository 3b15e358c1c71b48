import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import OpenAI, { APIError } from "openai";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { PROVIDER_INTERNAL_TEXT } from "../support/mock-provider/wire-format.ts";

let provider: MockProvider;
let parley: TestApp;
let anna: Account;
let client: OpenAI;

/** Each test starts its own Parley, because failing models are skipped for a while. */
beforeEach(async () => {
  provider = startMockProvider();
  parley = await startApp({
    config: {
      OPENAI_API_KEY: "sk-test",
      OPENAI_BASE_URL: provider.openaiUrl,
      ANTHROPIC_API_KEY: "sk-ant-test",
      ANTHROPIC_BASE_URL: provider.anthropicUrl,
      COMPATIBLE_BASE_URL: provider.openaiUrl,
      AI_MODELS: "openai/one,anthropic/two,compatible/three",
      AI_MAX_RETRIES: "0",
      AI_FIRST_TOKEN_TIMEOUT_MS: "2000",
      AI_IDLE_TIMEOUT_MS: "2000",
    },
  });
  anna = await parley.register();
  client = createClient(anna.access_token);
});
afterEach(async () => {
  await parley.stop();
  await provider.stop();
});

const createClient = (apiKey: string) => new OpenAI({ apiKey, baseURL: `${parley.url}/v1`, maxRetries: 0 });
const models = ["openai/one", "anthropic/two", "compatible/three"];
const helloMessages = [{ role: "user" as const, content: "Hello" }];
const lookUpTool = {
  type: "function" as const,
  function: { name: "look_up", description: "Looks it up.", parameters: { type: "object", properties: {} } },
};

/** Reads a stream, and returns its chunks and whether it ended with [DONE]. */
async function requestRawStream(
  body: object,
): Promise<{ chunks: Record<string, unknown>[]; isDone: boolean; text: string }> {
  const response = await parley.fetch("/v1/chat/completions", {
    token: anna.access_token,
    json: { model: "openai/one", messages: helloMessages, stream: true, ...body },
  });
  expect(response.headers.get("content-type")).toStartWith("text/event-stream");
  const text = await response.text();
  const dataLines = text.split("\n\n").filter((event) => event.startsWith("data: "));
  const isDone = dataLines.at(-1) === "data: [DONE]";
  const chunks = dataLines.slice(0, isDone ? -1 : undefined).map((data) => JSON.parse(data.slice(6)));
  return { chunks, isDone, text };
}

async function catchError(work: Promise<unknown>): Promise<APIError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof APIError) return error;
    throw error;
  }
  throw new Error("The request succeeded.");
}

describe("models", () => {
  test("are listed in OpenAI's format", async () => {
    const list = await client.models.list();
    expect(list.data).toMatchObject(
      models.map((id) => ({ id, object: "model", created: 0, owned_by: id.split("/")[0] ?? "" })),
    );
  });

  test("are found by name, with the slash encoded or raw", async () => {
    expect(await client.models.retrieve("anthropic/two")).toMatchObject({ id: "anthropic/two", object: "model" });
    const rawResponse = await parley.fetch("/v1/models/anthropic/two", { token: anna.access_token });
    expect(await rawResponse.json()).toMatchObject({ id: "anthropic/two" });
    expect(await catchError(client.models.retrieve("openai/none"))).toMatchObject({
      status: 404,
      code: "model_not_found",
    });
  });
});

describe("a completion", () => {
  test.each(models)("from %s is returned with its usage", async (model) => {
    provider.script(model.split("/")[1] ?? "", { text: "Grüße aus Parley – 🦊." });
    const completion = await client.chat.completions.create({
      model,
      messages: [{ role: "developer", content: "Be brief." }, ...helloMessages],
      temperature: 0.5,
      top_p: 0.9,
      max_tokens: 5,
      max_completion_tokens: 77,
      seed: 1,
      stop: null,
    });
    expect(completion).toMatchObject({
      object: "chat.completion",
      model,
      choices: [
        {
          index: 0,
          finish_reason: "stop",
          message: { role: "assistant", content: "Grüße aus Parley – 🦊.", refusal: null },
        },
      ],
    });
    expect(completion.id).toMatch(/^chatcmpl-[0-9a-f-]{36}$/);
    expect(Math.abs(completion.created - Date.now() / 1000)).toBeLessThan(10);
    const { prompt_tokens = 0, completion_tokens = 0, total_tokens = 0 } = completion.usage ?? {};
    expect(prompt_tokens).toBeGreaterThan(0);
    expect(total_tokens).toBe(prompt_tokens + completion_tokens);
    const providerBody = provider.requests.at(-1)?.body ?? {};
    expect(providerBody).toMatchObject({ temperature: 0.5, top_p: 0.9 });
    expect(JSON.stringify(providerBody)).toContain(":77");
    expect(JSON.stringify(providerBody)).toContain("Be brief.");
    // A hint such as `seed` is sent only to servers whose API supports it.
    expect(providerBody.seed).toBe(model === "compatible/three" ? 1 : undefined);
  });

  test("comes from the next model if the first is down", async () => {
    provider.script("one", { fault: "status", status: 500 });
    provider.script("two", { text: "I am the second." });
    const completion = await client.chat.completions.create({ model: "openai/one", messages: helloMessages });
    expect(completion).toMatchObject({
      model: "anthropic/two",
      choices: [{ message: { content: "I am the second." } }],
    });
  });

  test("joins the text parts of a message", async () => {
    await client.chat.completions.create({
      model: "compatible/three",
      messages: [
        {
          role: "user",
          content: [
            { type: "text", text: "one" },
            { type: "text", text: "two" },
          ],
        },
      ],
      stop: "END",
    });
    expect(provider.requests.at(-1)?.body).toMatchObject({
      messages: [{ role: "user", content: "one\ntwo" }],
      stop: ["END"],
    });
  });

  test("is aborted at the provider when its client disconnects", async () => {
    provider.script("one", { pieces: Array(500).fill("word "), pieceDelayMs: 10 });
    const abort = new AbortController();
    const completion = client.chat.completions.create(
      { model: "openai/one", messages: helloMessages },
      { signal: abort.signal },
    );
    completion.catch(() => {});
    for (let waits = 0; waits < 100 && provider.requests.length === 0; waits += 1) await Bun.sleep(20);
    abort.abort();
    for (let waits = 0; waits < 100 && !provider.requests[0]?.wasAborted; waits += 1) await Bun.sleep(20);
    expect(provider.requests[0]?.wasAborted).toBe(true);
  });
});

describe("a stream", () => {
  test.each(models)("from %s arrives in chunks", async (model) => {
    provider.script(model.split("/")[1] ?? "", { pieces: ["The ", "quick ", "fox 🦊"], pieceDelayMs: 20 });
    const stream = await client.chat.completions.create({
      model,
      messages: helloMessages,
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join("")).toBe("The quick fox 🦊");
    expect(chunks.length).toBe(6);
    expect(new Set(chunks.map(({ id, created, model: name }) => `${id} ${created} ${name}`)).size).toBe(1);
    expect(chunks[0]?.choices[0]?.delta).toMatchObject({ role: "assistant" });
    expect(chunks.map(({ choices }) => choices[0]?.finish_reason ?? null)).toEqual([
      null,
      null,
      null,
      null,
      "stop",
      null,
    ]);
    expect(chunks.slice(0, -1).every(({ usage }) => usage === null)).toBe(true);
    const lastChunk = chunks.at(-1);
    expect(lastChunk?.choices).toEqual([]);
    expect(lastChunk?.usage?.completion_tokens).toBe(3);
    expect(lastChunk?.usage?.total_tokens).toBe((lastChunk?.usage?.prompt_tokens ?? 0) + 3);
  });

  test("ends with [DONE], and has usage only on request", async () => {
    const { chunks, isDone } = await requestRawStream({});
    expect(isDone).toBe(true);
    expect(chunks.every((chunk) => !("usage" in chunk))).toBe(true);
  });

  test("doesn't reveal a failover that happens before the first text", async () => {
    provider.script("one", { fault: "no_end_marker", piecesBeforeFault: 0 });
    provider.script("two", { text: "Here I am." });
    const { chunks, isDone } = await requestRawStream({});
    expect(
      chunks.map(({ choices }) => (choices as { delta: { content?: string } }[])[0]?.delta.content ?? "").join(""),
    ).toBe("Here I am.");
    expect(chunks[0]?.model).toBe("anthropic/two");
    expect(isDone).toBe(true);
  });

  test("continues with the next model after a failover in the middle of the text", async () => {
    provider.script("one", { pieces: ["The capital ", "is ", "never sent"], fault: "cut", piecesBeforeFault: 2 });
    provider.script("two", { text: "Paris." });
    const runner = client.chat.completions.stream({ model: "openai/one", messages: helloMessages });
    expect(await runner.finalContent()).toBe("The capital is Paris.");
  });

  test("ends with an error and without [DONE] if every model fails permanently", async () => {
    for (const model of ["one", "two", "three"])
      provider.script(model, { text: "a b c d", fault: "cut", piecesBeforeFault: 1 });
    const { chunks, isDone, text } = await requestRawStream({});
    expect(isDone).toBe(false);
    expect(chunks.at(-1)).toEqual({
      error: {
        message: "The model can't be reached right now. Try again later.",
        type: "server_error",
        param: null,
        code: "provider_unavailable",
      },
    });
    expect(text).not.toContain(PROVIDER_INTERNAL_TEXT);
    const error = await catchError(
      (async () => {
        const stream = await client.chat.completions.create({
          model: "openai/one",
          messages: helloMessages,
          stream: true,
        });
        for await (const _ of stream);
      })(),
    );
    expect(error.code).toBe("provider_unavailable");
  });

  test("ends with an error if a tool call is cut off after text was sent", async () => {
    provider.script("one", { pieces: ["Let me ", "look"], fault: "tool_call_cut", piecesBeforeFault: 2 });
    provider.script("two", { text: "Something else." });
    const { chunks, isDone, text } = await requestRawStream({ tools: [lookUpTool] });
    expect(isDone).toBe(false);
    expect(text).not.toContain("Something else.");
    expect(chunks.at(-1)).toMatchObject({ error: { code: "provider_unavailable" } });
  });

  test("is aborted at the provider when its reader disconnects", async () => {
    provider.script("one", { pieces: Array(500).fill("word "), pieceDelayMs: 10 });
    const stream = await client.chat.completions.create({ model: "openai/one", messages: helloMessages, stream: true });
    let chunks = 0;
    for await (const _ of stream) {
      chunks += 1;
      if (chunks === 5) break;
    }
    for (let waits = 0; waits < 100 && !provider.requests[0]?.wasAborted; waits += 1) await Bun.sleep(20);
    expect(provider.requests[0]?.wasAborted).toBe(true);
  });
});

describe("tools", () => {
  test.each(models)("are called by %s, which continues with their results", async (model) => {
    const script = { text: "One moment.", toolCalls: [{ name: "look_up", arguments: '{"word":"fox"}' }] };
    provider.script(model.split("/")[1] ?? "", script, { text: "A fox is red." });
    const firstCompletion = await client.chat.completions.create({
      model,
      messages: helloMessages,
      tools: [lookUpTool],
      tool_choice: "auto",
    });
    const [choice] = firstCompletion.choices;
    expect(choice?.finish_reason).toBe("tool_calls");
    expect(choice?.message.content).toBe("One moment.");
    const [call] = choice?.message.tool_calls ?? [];
    expect(call).toEqual({
      id: expect.any(String),
      type: "function",
      function: { name: "look_up", arguments: '{"word":"fox"}' },
    });
    const secondCompletion = await client.chat.completions.create({
      model,
      messages: [
        ...helloMessages,
        choice?.message as never,
        { role: "tool", tool_call_id: call?.id ?? "", content: "red" },
      ],
      tools: [lookUpTool],
    });
    expect(secondCompletion.choices[0]?.message.content).toBe("A fox is red.");
    expect(JSON.stringify(provider.requests.at(-1)?.body)).toContain('"red"');
  });

  test("can be called in a stream, and arguments that are not JSON are passed on unchanged", async () => {
    provider.script("one", {
      toolCalls: [
        { name: "look_up", arguments: '{"word":"fox"}' },
        { name: "look_up", arguments: "{no JSON" },
      ],
    });
    const runner = client.chat.completions.stream({
      model: "openai/one",
      messages: helloMessages,
      tools: [lookUpTool],
    });
    const { choices } = await runner.finalChatCompletion();
    expect(choices[0]?.finish_reason).toBe("tool_calls");
    expect(choices[0]?.message.tool_calls?.map((call) => call.type === "function" && call.function.arguments)).toEqual([
      '{"word":"fox"}',
      "{no JSON",
    ]);
  });
});

describe("error responses", () => {
  test("have OpenAI's format if the API key is invalid or missing", async () => {
    const error = await catchError(createClient("invalid").models.list());
    expect(error).toMatchObject({ status: 401, code: "invalid_api_key", type: "invalid_request_error" });
    const response = await parley.fetch("/v1/chat/completions", { json: {} });
    expect(response.status).toBe(401);
    expect(response.headers.get("content-type")).toStartWith("application/json");
    expect(response.headers.get("x-request-id")).toBeTruthy();
    expect(Object.keys(((await response.json()) as { error: object }).error).sort()).toEqual([
      "code",
      "message",
      "param",
      "type",
    ]);
  });

  test("have the status 404 for an unknown model", async () => {
    const error = await catchError(client.chat.completions.create({ model: "openai/none", messages: helloMessages }));
    expect(error).toMatchObject({ status: 404, code: "model_not_found", param: "model" });
  });

  test("have the status 404 for an unknown path, and 405 for an unsupported method", async () => {
    const unknownPath = await parley.fetch("/v1/embeddings", { token: anna.access_token, json: {} });
    expect([unknownPath.status, ((await unknownPath.json()) as { error: { code: string } }).error.code]).toEqual([
      404,
      "not_found",
    ]);
    const wrongMethod = await parley.fetch("/v1/models", { token: anna.access_token, method: "DELETE" });
    expect([wrongMethod.status, wrongMethod.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
    expect(await wrongMethod.json()).toMatchObject({ error: { code: "method_not_allowed" } });
  });

  const toolCall = { id: "c1", type: "function", function: { name: "f", arguments: "{}" } };
  test.each<[string, Record<string, unknown>, string | null]>([
    ["no messages", { messages: [] }, "messages"],
    ["invalid messages", { messages: "Hello" }, "messages"],
    ["an unknown role", { messages: [{ role: "robot", content: "x" }] }, "messages[0].role"],
    ["no content", { messages: [{ role: "user" }] }, "messages[0].content"],
    [
      "an image",
      { messages: [{ role: "user", content: [{ type: "image_url", image_url: {} }] }] },
      "messages[0].content[0].type",
    ],
    [
      "a tool result without its call",
      { messages: [...helloMessages, { role: "tool", tool_call_id: "c1", content: "x" }] },
      "messages[1].role",
    ],
    [
      "a tool result for an unknown call",
      {
        messages: [
          { role: "assistant", tool_calls: [toolCall] },
          { role: "tool", tool_call_id: "c2", content: "x" },
        ],
      },
      "messages[1].role",
    ],
    [
      "a tool result without an id",
      {
        messages: [
          { role: "assistant", tool_calls: [toolCall] },
          { role: "tool", content: "x" },
        ],
      },
      "messages[1].tool_call_id",
    ],
    ["two choices", { n: 2 }, "n"],
    ["a temperature out of range", { temperature: 3 }, "temperature"],
    ["a token limit of zero", { max_tokens: 0 }, "max_tokens"],
    ["five stop sequences", { stop: ["a", "b", "c", "d", "e"] }, "stop"],
    [
      "a tool with an invalid name",
      { tools: [{ type: "function", function: { name: "a b" } }] },
      "tools[0].function.name",
    ],
    ["two tools with the same name", { tools: [lookUpTool, lookUpTool] }, "tools"],
    [
      "a tool_choice of an unknown tool",
      { tools: [lookUpTool], tool_choice: { type: "function", function: { name: "g" } } },
      "tool_choice.function.name",
    ],
    ["an invalid conversation ID", { metadata: { conversation_id: "7" } }, "metadata.conversation_id"],
    ["a NUL character", { messages: [{ role: "user", content: "a\0b" }] }, "messages[0].content"],
  ])("have the status 400 for a request with %s", async (_name, body, param) => {
    const response = await parley.fetch("/v1/chat/completions", {
      token: anna.access_token,
      json: { model: "openai/one", messages: helloMessages, ...body },
    });
    expect(response.status).toBe(400);
    const { error } = (await response.json()) as { error: { type: string; param: string | null; message: string } };
    expect(error).toMatchObject({ type: "invalid_request_error", param, message: expect.any(String) });
    expect(provider.requests.length).toBe(0);
  });

  test("have the status 400 for invalid JSON, 415 for an unsupported content type, and 413 for a body of 2 MB", async () => {
    const postBody = (body: string, type: string) =>
      fetch(`${parley.url}/v1/chat/completions`, {
        method: "POST",
        headers: { authorization: `Bearer ${anna.access_token}`, "content-type": type },
        body,
      });
    const large = JSON.stringify({ model: "openai/one", messages: [{ role: "user", content: "x".repeat(2_000_000) }] });
    const responses = await Promise.all([
      postBody("{", "application/json"),
      postBody("{}", "text/plain"),
      postBody(large, "application/json"),
    ]);
    expect(responses.map(({ status }) => status)).toEqual([400, 415, 413]);
    for (const response of responses)
      expect(await response.json()).toMatchObject({ error: { type: "invalid_request_error" } });
  });

  test.each([
    ["are down", { fault: "status", status: 500 }, 503, "provider_unavailable"],
    ["reject the request", { fault: "status", status: 400 }, 400, "provider_refused"],
    ["are rate-limited", { fault: "status", status: 429, retryAfter: "3600" }, 429, "provider_rate_limited"],
    ["reject Parley's API key", { fault: "status", status: 401 }, 503, "provider_unauthorized"],
  ] as const)("have Parley's status and no provider details if all models %s", async (_name, script, status, code) => {
    for (const model of ["one", "two", "three"]) provider.script(model, script);
    for (const stream of [false, true]) {
      const response = await parley.fetch("/v1/chat/completions", {
        token: anna.access_token,
        json: { model: "openai/one", messages: helloMessages, stream },
      });
      const text = await response.text();
      expect([response.status, JSON.parse(text).error.code]).toEqual([status, code]);
      expect(text).not.toContain(PROVIDER_INTERNAL_TEXT);
    }
  });
});
