import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { waitUntil } from "../support/wait-until.ts";
import { type Chat, openChat } from "./chat.ts";
import { createInstallation, type Installation, type Parley, TEST_TIMEOUT_MS } from "./installation.ts";
import {
  createCompletionChunks,
  createResponse,
  createSlowStream,
  createStream,
  noResponse,
  type ReceivedRequest,
  type ScriptedResponse,
  type ScriptedServer,
  startScriptedServer,
} from "./scripted-server.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const FIRST_TOKEN_TIMEOUT_MS = 1_000;
const ANSWER_TIMEOUT_MS = 6_000;
const HEALTHY = "compatible/healthy";

const createDelta = (fields: unknown, finish_reason: string | null = null) => ({
  choices: [{ index: 0, delta: fields, finish_reason }],
});
const formatEvent = (data: unknown): string => `data: ${JSON.stringify(data)}\n\n`;
const fineStream = createCompletionChunks("Fine.")
  .map((data) => (data === "[DONE]" ? "data: [DONE]\n\n" : formatEvent(data)))
  .join("");
/**
 * Streams keep-alive packets before an answer. Each pause is shorter than the idle timeout, but together they exceed it.
 */
const createKeepAliveStream = (packet: string): ScriptedResponse =>
  createSlowStream(...Array.from({ length: 5 }, () => [600, packet]).flat(), fineStream);
const createErrorPage = (bytes: number): ScriptedResponse =>
  createResponse(500, "x".repeat(bytes), { "content-type": "text/html" });
/** Streams pings for longer than the answer timeout. */
const endlessStream = createSlowStream(...Array.from({ length: 60 }, () => [500, ": ping\n\n"]).flat());
const createParameterError = (param: string): ScriptedResponse =>
  createResponse(400, {
    error: {
      message: `Unsupported parameter: '${param}' is not supported with this model.`,
      type: "invalid_request_error",
      param,
      code: "unsupported_parameter",
    },
  });
const createCall = (fields: Record<string, unknown>) => createDelta({ tool_calls: [fields] });
const createFunction = (name: unknown, text: unknown) => ({ function: { name, arguments: text } });

type Responder = (request: ReceivedRequest, count: number) => ScriptedResponse;

const responders: Record<string, Responder> = {
  pings: () => createKeepAliveStream(": ping\n\n"),
  reasoning: () => createKeepAliveStream(formatEvent(createDelta({ reasoning_content: "Hm. " }))),
  "empty-deltas": () => createKeepAliveStream(formatEvent(createDelta({ content: "" }))),
  "role-only": () => createKeepAliveStream(formatEvent(createDelta({ role: "assistant" }))),
  endless: () => endlessStream,
  "error-then-end": () => createStream({ error: { message: "overloaded", code: 503 } }, "[DONE]"),
  "long-page": () => createErrorPage(100 * 1024),
  "one-megabyte-page": () => createErrorPage(1024 * 1024),
  "closes-idle-connections": (_request, count) =>
    count <= 3 ? createStream(...createCompletionChunks("Fine.")) : noResponse,
  temperature: ({ body }) =>
    "temperature" in body ? createParameterError("temperature") : createStream(...createCompletionChunks("Fine.")),
  "stream-options": ({ body }) =>
    "stream_options" in body
      ? createResponse(422, {
          detail: [{ type: "extra_forbidden", loc: ["body", "stream_options"], msg: "Extra inputs are not permitted" }],
        })
      : createStream(...createCompletionChunks("Fine.")),
  "max-tokens": ({ body }) =>
    "max_tokens" in body
      ? createResponse(400, {
          error: {
            message:
              "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            param: "max_tokens",
            code: "unsupported_parameter",
          },
        })
      : createStream(...createCompletionChunks("Fine.")),
  slow: () =>
    createSlowStream(
      formatEvent(createDelta({ content: "word " })),
      ...Array.from({ length: 80 }, () => [250, formatEvent(createDelta({ content: "word " }))]).flat(),
    ),
  "rejected-late": () => ({
    ...createResponse(400, { error: { message: "too long", code: "context_length_exceeded" } }),
    packets: [
      3_000,
      ...createResponse(400, { error: { message: "too long", code: "context_length_exceeded" } }).packets,
    ],
  }),
  "silent-then-fine": () =>
    createSlowStream(
      ": hello\n\n",
      ...Array.from({ length: 10 }, () => [600, formatEvent(createDelta({ role: "assistant" }))])
        .flat()
        .slice(0, 8),
      fineStream,
    ),
  redirects: () => createResponse(302, "", { location: "https://user:secret@elsewhere.example.com/v1?key=secret" }),
  "null-arguments": () =>
    createStream(
      createCall({ index: 0, id: "a", ...createFunction("one", null) }),
      createCall({ index: 0, ...createFunction(null, '{"x":1}') }),
      createDelta({}, "tool_calls"),
    ),
  "same-index": () =>
    createStream(
      createCall({ index: 0, ...createFunction("one", '{"x":1}') }),
      createCall({ index: 0, ...createFunction("two", '{"y":2}') }),
      createDelta({}, "tool_calls"),
    ),
  "same-function": () =>
    createStream(
      createCall({ index: 0, ...createFunction("one", '{"x":1}') }),
      createCall({ index: 0, ...createFunction("one", '{"x":2}') }),
      createDelta({}, "tool_calls"),
    ),
  "no-indexes": () =>
    createStream(
      createDelta({ tool_calls: [createFunction("one", '{"x":1}'), createFunction("two", '{"y":2}')] }),
      createDelta({}, "tool_calls"),
    ),
  "name-null": () =>
    createStream(
      createCall({ index: 0, id: "a", ...createFunction("one", '{"x"') }),
      createCall({ index: 0, id: "null", ...createFunction("null", ":1}") }),
      createDelta({}, "tool_calls"),
    ),
  "changing-ids": () =>
    createStream(
      createCall({ index: 0, id: "a", ...createFunction("one", '{"x"') }),
      createCall({ index: 0, id: "b", ...createFunction("", ":1}") }),
      createDelta({}, "tool_calls"),
    ),
  "object-arguments": () =>
    createStream(createCall({ index: 0, id: "a", ...createFunction("one", { x: 1 }) }), createDelta({}, "tool_calls")),
};

let server: ScriptedServer;
let installation: Installation;
let parley: Parley;
let chat: Chat;

beforeAll(async () => {
  server = startScriptedServer(
    (request, count) =>
      responders[request.model]?.(request, count) ?? createStream(...createCompletionChunks("Healthy.")),
  );
  installation = await createInstallation({
    env: {
      COMPATIBLE_BASE_URL: server.openaiUrl.replace("//", "//user:pass%20word@"),
      OPENAI_API_KEY: "openai-key",
      OPENAI_BASE_URL: server.openaiUrl,
      AI_MODELS: [
        HEALTHY,
        "openai/rejected-late",
        ...Object.keys(responders).map((model) => `compatible/${model}`),
      ].join(","),
      AI_OPENAI_FIRST_TOKEN_TIMEOUT_MS: String(10 * FIRST_TOKEN_TIMEOUT_MS),
      AI_MAX_RETRIES: "0",
      AI_FIRST_TOKEN_TIMEOUT_MS: String(FIRST_TOKEN_TIMEOUT_MS),
      AI_ANSWER_TIMEOUT_MS: String(ANSWER_TIMEOUT_MS),
    },
  });
  parley = await installation.start();
  chat = await openChat(parley);
});
afterAll(async () => {
  await chat?.socket.close();
  await installation?.remove();
  server?.stop();
});

async function requestAnswer(model: string) {
  const id = await chat.requestAnswer(`compatible/${model}`);
  return (await chat.waitForAnswer(id, 20_000)).message;
}

const requestCompletion = (model: string, body: Record<string, unknown> = {}): Promise<Response> =>
  parley.fetch("/v1/chat/completions", {
    token: chat.account.access_token,
    json: { model: `compatible/${model}`, messages: [{ role: "user", content: "Hello" }], ...body },
  });

describe("a provider's stream", () => {
  test.each(["pings", "reasoning", "empty-deltas", "role-only"])(
    "isn't considered idle while bytes arrive (%s)",
    async (model) => {
      expect(await requestAnswer(model)).toMatchObject({
        status: "complete",
        content: "Fine.",
        model: `compatible/${model}`,
      });
      expect(server.listRequests(model).length).toBe(1);
    },
  );

  test("fails at the answer timeout if it is endless and has no content, and isn't retried", async () => {
    const startedAtMs = performance.now();
    const message = await requestAnswer("endless");
    expect(message).toMatchObject({
      status: "failed",
      error: { code: "provider_timeout" },
      model: "compatible/endless",
    });
    expect(performance.now() - startedAtMs).toBeWithin(ANSWER_TIMEOUT_MS - 500, ANSWER_TIMEOUT_MS + 3_000);
    await waitUntil(() => server.abortedRequests.some(({ model }) => model === "endless"));
  });
});

describe("provider requests", () => {
  test.each(["error-then-end", "long-page", "one-megabyte-page"])("succeed after ten %s responses", async (model) => {
    for (let index = 0; index < 10; index += 1) await requestCompletion(model);
    const startedAtMs = performance.now();
    const statuses = await Promise.all(
      Array.from({ length: 12 }, async () => (await requestCompletion("healthy")).status),
    );
    expect(statuses).toEqual(Array(12).fill(200));
    expect(performance.now() - startedAtMs).toBeLessThan(FIRST_TOKEN_TIMEOUT_MS);
  });

  test("are sent again at most once if the provider has closed idle connections", async () => {
    await Promise.all([1, 2, 3].map(() => requestCompletion("closes-idle-connections")));
    const requestCountBefore = server.listRequests("closes-idle-connections").length;
    const response = await requestCompletion("closes-idle-connections");
    expect(server.listRequests("closes-idle-connections").length - requestCountBefore).toBeLessThanOrEqual(2);
    expect(((await response.json()) as { model: string }).model).toBe(HEALTHY);
  });

  test("use the base URL's credentials for Basic authentication, and the credentials aren't logged", async () => {
    await requestCompletion("healthy");
    const { headers } = server.listRequests("healthy").at(-1) as ReceivedRequest;
    expect(/^authorization: (.*)$/im.exec(headers)?.[1]).toBe(`Basic ${btoa("user:pass word")}`);
    expect(installation.readLog()).not.toMatch(/pass(%20| )word/);
  });

  test("don't follow redirects, and the target is logged without secrets", async () => {
    expect(await requestAnswer("redirects")).toMatchObject({ model: HEALTHY });
    expect(server.listRequests("redirects").length).toBe(1);
    expect(installation.readLog()).toContain("https://elsewhere.example.com/v1");
    expect(installation.readLog()).not.toContain("secret");
  });
});

describe("parameters that a model rejects", () => {
  test.each([
    ["temperature", { temperature: 0.2 }],
    ["stream-options", {}],
    ["max-tokens", { max_tokens: 50 }],
  ])("are omitted from the retry and all later requests (%s)", async (model, body) => {
    const firstCompletion = (await (await requestCompletion(model, body)).json()) as { model: string };
    expect([firstCompletion.model, server.listRequests(model).length]).toEqual([`compatible/${model}`, 2]);
    const secondCompletion = (await (await requestCompletion(model, body)).json()) as { model: string };
    expect([secondCompletion.model, server.listRequests(model).length]).toEqual([`compatible/${model}`, 3]);
    const { body: sentBody } = server.listRequests(model).at(-1) as ReceivedRequest;
    if (model === "max-tokens") expect(sentBody).toMatchObject({ max_completion_tokens: 50 });
  });
});

describe("unusual tool calls", () => {
  const expectedCall = { name: "one", arguments: '{"x":1}' };
  const tools = ["one", "two"].map((name) => ({
    type: "function",
    function: { name, parameters: { type: "object" } },
  }));
  test.each([
    ["null-arguments", [expectedCall]],
    ["same-index", [expectedCall, { name: "two", arguments: '{"y":2}' }]],
    ["same-function", [expectedCall, { name: "one", arguments: '{"x":2}' }]],
    ["no-indexes", [expectedCall, { name: "two", arguments: '{"y":2}' }]],
    ["name-null", [expectedCall]],
    ["changing-ids", [expectedCall]],
    ["object-arguments", [expectedCall]],
  ])("are parsed (%s)", async (model, expected) => {
    const body = (await (await requestCompletion(model, { tools })).json()) as {
      choices: { message: { tool_calls: { id: string; function: unknown }[] }; finish_reason: string }[];
    };
    const [choice] = body.choices;
    expect(choice?.finish_reason).toBe("tool_calls");
    expect(choice?.message.tool_calls.map((call) => call.function)).toEqual(expected);
    expect(new Set(choice?.message.tool_calls.map(({ id }) => id)).size).toBe(expected.length);
  });
});

describe("a /v1 stream", () => {
  const readResponse = async (response: Response) => ({ status: response.status, text: await response.text() });

  test("starts within 2 seconds even if the provider responds later, and stays open", async () => {
    const startedAtMs = performance.now();
    const response = await requestCompletion("rejected-late", { stream: true, model: "openai/rejected-late" });
    expect(performance.now() - startedAtMs).toBeWithin(1_500, 2_900);
    expect((await readResponse(response)).text).toContain("Healthy.");
  });

  test("starts when the model sends its first byte", async () => {
    const startedAtMs = performance.now();
    const response = await requestCompletion("silent-then-fine", { stream: true });
    expect(performance.now() - startedAtMs).toBeLessThan(1_000);
    const { text } = await readResponse(response);
    expect(text).toContain("Fine.");
    expect(text).toEndWith("data: [DONE]\n\n");
  });
});

describe("concurrent requests", () => {
  test("to regenerate an answer fail with 409, except the first one", async () => {
    const question = await parley.fetch(`/api/v1/conversations/${chat.conversationId}/messages`, {
      token: chat.account.access_token,
      json: { content: "Hello", reply: false },
    });
    const { message } = (await question.json()) as { message: { id: string } };
    const path = `/api/v1/conversations/${chat.conversationId}/messages/${message.id}/regenerate`;
    const regenerate = () =>
      parley.fetch(path, { token: chat.account.access_token, json: { model: "compatible/slow" } });
    const statuses = (await Promise.all([regenerate(), regenerate(), regenerate()])).map(({ status }) => status);
    expect(statuses.toSorted()).toEqual([201, 409, 409]);
  });

  test("to the provider are aborted within 2 seconds if their conversation is deleted", async () => {
    const deletedChat = await openChat(parley);
    const abortCountBefore = server.abortedRequests.length;
    await deletedChat.requestAnswer("compatible/slow");
    await waitUntil(() => server.listRequests("slow").length >= 2);
    const deleteResponse = await parley.fetch(`/api/v1/conversations/${deletedChat.conversationId}`, {
      token: deletedChat.account.access_token,
      method: "DELETE",
    });
    expect(deleteResponse.status).toBe(204);
    const startedAtMs = performance.now();
    await waitUntil(() => server.abortedRequests.length > abortCountBefore);
    expect(performance.now() - startedAtMs).toBeLessThan(2_000);
    await deletedChat.socket.close();
  });
});

test("a refusal in the message history of a /v1 request is sent to the model as text", async () => {
  const messages = [
    { role: "user", content: "Do it." },
    { role: "assistant", content: [{ type: "refusal", refusal: "I will not." }] },
    { role: "user", content: "Why?" },
  ];
  expect((await requestCompletion("healthy", { messages })).status).toBe(200);
  expect(JSON.stringify(server.listRequests("healthy").at(-1)?.body)).toContain("I will not.");
});
