import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type Chat, openChat } from "./chat.ts";
import { createInstallation, type Installation, type Parley, TEST_TIMEOUT_MS } from "./installation.ts";
import {
  createCompletionChunks,
  createResponse,
  noResponse,
  type ReceivedRequest,
  type ScriptedResponse,
  type ScriptedServer,
  slowStream,
  startScriptedServer,
  stream,
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
/** Streams keep-alive packets. The pauses between them are shorter than the idle timeout, but add up to much longer. */
const keepAliveStream = (packet: string): ScriptedResponse =>
  slowStream(...Array.from({ length: 5 }, () => [600, packet]).flat(), fineStream);
const createErrorPage = (bytes: number): ScriptedResponse =>
  createResponse(500, "x".repeat(bytes), { "content-type": "text/html" });
/** Streams pings for longer than the answer timeout. */
const endlessStream = slowStream(...Array.from({ length: 60 }, () => [500, ": ping\n\n"]).flat());
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

type RespondTo = (request: ReceivedRequest, count: number) => ScriptedResponse;

const models: Record<string, RespondTo> = {
  pings: () => keepAliveStream(": ping\n\n"),
  reasoning: () => keepAliveStream(formatEvent(createDelta({ reasoning_content: "Hm. " }))),
  "empty-deltas": () => keepAliveStream(formatEvent(createDelta({ content: "" }))),
  "role-only": () => keepAliveStream(formatEvent(createDelta({ role: "assistant" }))),
  endless: () => endlessStream,
  "error-then-end": () => stream({ error: { message: "overloaded", code: 503 } }, "[DONE]"),
  "long-page": () => createErrorPage(100 * 1024),
  "page-of-a-megabyte": () => createErrorPage(1024 * 1024),
  "closes-waiting": (_request, count) => (count <= 3 ? stream(...createCompletionChunks("Fine.")) : noResponse),
  temperature: ({ body }) =>
    "temperature" in body ? createParameterError("temperature") : stream(...createCompletionChunks("Fine.")),
  "stream-options": ({ body }) =>
    "stream_options" in body
      ? createResponse(422, {
          detail: [{ type: "extra_forbidden", loc: ["body", "stream_options"], msg: "Extra inputs are not permitted" }],
        })
      : stream(...createCompletionChunks("Fine.")),
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
      : stream(...createCompletionChunks("Fine.")),
  slow: () =>
    slowStream(
      formatEvent(createDelta({ content: "word " })),
      ...Array.from({ length: 80 }, () => [250, formatEvent(createDelta({ content: "word " }))]).flat(),
    ),
  "refused-late": () => ({
    ...createResponse(400, { error: { message: "too long", code: "context_length_exceeded" } }),
    packets: [
      3_000,
      ...createResponse(400, { error: { message: "too long", code: "context_length_exceeded" } }).packets,
    ],
  }),
  "silent-then-fine": () =>
    slowStream(
      ": hello\n\n",
      ...Array.from({ length: 10 }, () => [600, formatEvent(createDelta({ role: "assistant" }))])
        .flat()
        .slice(0, 8),
      fineStream,
    ),
  redirects: () => createResponse(302, "", { location: "https://user:secret@elsewhere.example.com/v1?key=secret" }),
  "null-arguments": () =>
    stream(
      createCall({ index: 0, id: "a", ...createFunction("one", null) }),
      createCall({ index: 0, ...createFunction(null, '{"x":1}') }),
      createDelta({}, "tool_calls"),
    ),
  "same-index": () =>
    stream(
      createCall({ index: 0, ...createFunction("one", '{"x":1}') }),
      createCall({ index: 0, ...createFunction("two", '{"y":2}') }),
      createDelta({}, "tool_calls"),
    ),
  "same-function": () =>
    stream(
      createCall({ index: 0, ...createFunction("one", '{"x":1}') }),
      createCall({ index: 0, ...createFunction("one", '{"x":2}') }),
      createDelta({}, "tool_calls"),
    ),
  "no-indexes": () =>
    stream(
      createDelta({ tool_calls: [createFunction("one", '{"x":1}'), createFunction("two", '{"y":2}')] }),
      createDelta({}, "tool_calls"),
    ),
  "name-null": () =>
    stream(
      createCall({ index: 0, id: "a", ...createFunction("one", '{"x"') }),
      createCall({ index: 0, id: "null", ...createFunction("null", ":1}") }),
      createDelta({}, "tool_calls"),
    ),
  "changing-ids": () =>
    stream(
      createCall({ index: 0, id: "a", ...createFunction("one", '{"x"') }),
      createCall({ index: 0, id: "b", ...createFunction("", ":1}") }),
      createDelta({}, "tool_calls"),
    ),
  "object-arguments": () =>
    stream(createCall({ index: 0, id: "a", ...createFunction("one", { x: 1 }) }), createDelta({}, "tool_calls")),
};

/** Waits until a condition is met. The time limit is longer than any timeout in these tests. */
async function waitUntil(isMet: () => boolean): Promise<void> {
  for (let remainingMs = 5_000; !isMet(); remainingMs -= 10) {
    if (remainingMs <= 0) throw new Error("Condition not met in time.");
    await Bun.sleep(10);
  }
}

let server: ScriptedServer;
let installation: Installation;
let parley: Parley;
let chat: Chat;

beforeAll(async () => {
  server = startScriptedServer(
    (request, count) => models[request.model]?.(request, count) ?? stream(...createCompletionChunks("Healthy.")),
  );
  installation = await createInstallation({
    env: {
      COMPATIBLE_BASE_URL: server.openaiUrl.replace("//", "//user:pass%20word@"),
      OPENAI_API_KEY: "key-of-openai",
      OPENAI_BASE_URL: server.openaiUrl,
      AI_MODELS: [HEALTHY, "openai/refused-late", ...Object.keys(models).map((model) => `compatible/${model}`)].join(
        ",",
      ),
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
    "isn't idle while bytes arrive (%s)",
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
  test.each(["error-then-end", "long-page", "page-of-a-megabyte"])(
    "succeed after ten responses of type %s",
    async (model) => {
      for (let index = 0; index < 10; index += 1) await requestCompletion(model);
      const startedAtMs = performance.now();
      const statuses = await Promise.all(
        Array.from({ length: 12 }, async () => (await requestCompletion("healthy")).status),
      );
      expect(statuses).toEqual(Array(12).fill(200));
      expect(performance.now() - startedAtMs).toBeLessThan(FIRST_TOKEN_TIMEOUT_MS);
    },
  );

  test("are repeated at most once if the provider has closed idle connections", async () => {
    await Promise.all([1, 2, 3].map(() => requestCompletion("closes-waiting")));
    const requestsBefore = server.listRequests("closes-waiting").length;
    const response = await requestCompletion("closes-waiting");
    expect(server.listRequests("closes-waiting").length - requestsBefore).toBeLessThanOrEqual(2);
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
    const first = (await (await requestCompletion(model, body)).json()) as { model: string };
    expect([first.model, server.listRequests(model).length]).toEqual([`compatible/${model}`, 2]);
    const second = (await (await requestCompletion(model, body)).json()) as { model: string };
    expect([second.model, server.listRequests(model).length]).toEqual([`compatible/${model}`, 3]);
    const { body: sentBody } = server.listRequests(model).at(-1) as ReceivedRequest;
    if (model === "max-tokens") expect(sentBody).toMatchObject({ max_completion_tokens: 50 });
  });
});

describe("unusual tool calls", () => {
  const one = { name: "one", arguments: '{"x":1}' };
  const tools = ["one", "two"].map((name) => ({
    type: "function",
    function: { name, parameters: { type: "object" } },
  }));
  test.each([
    ["null-arguments", [one]],
    ["same-index", [one, { name: "two", arguments: '{"y":2}' }]],
    ["same-function", [one, { name: "one", arguments: '{"x":2}' }]],
    ["no-indexes", [one, { name: "two", arguments: '{"y":2}' }]],
    ["name-null", [one]],
    ["changing-ids", [one]],
    ["object-arguments", [one]],
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
  const readAll = async (response: Response) => ({ status: response.status, text: await response.text() });

  test("starts within 2 seconds even if the provider responds later, and stays open", async () => {
    const startedAtMs = performance.now();
    const response = await requestCompletion("refused-late", { stream: true, model: "openai/refused-late" });
    expect(performance.now() - startedAtMs).toBeWithin(1_500, 2_900);
    expect((await readAll(response)).text).toContain("Healthy.");
  });

  test("starts when the model sends its first byte", async () => {
    const startedAtMs = performance.now();
    const response = await requestCompletion("silent-then-fine", { stream: true });
    expect(performance.now() - startedAtMs).toBeLessThan(1_000);
    const { text } = await readAll(response);
    expect(text).toContain("Fine.");
    expect(text).toEndWith("data: [DONE]\n\n");
  });
});

describe("with concurrent requests", () => {
  test("only one of several attempts to regenerate an answer succeeds", async () => {
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

  test("deleting a conversation aborts its provider request within 2 seconds", async () => {
    const other = await openChat(parley);
    const abortsBefore = server.abortedRequests.length;
    await other.requestAnswer("compatible/slow");
    await waitUntil(() => server.listRequests("slow").length >= 2);
    const deleted = await parley.fetch(`/api/v1/conversations/${other.conversationId}`, {
      token: other.account.access_token,
      method: "DELETE",
    });
    expect(deleted.status).toBe(204);
    const startedAtMs = performance.now();
    await waitUntil(() => server.abortedRequests.length > abortsBefore);
    expect(performance.now() - startedAtMs).toBeLessThan(2_000);
    await other.socket.close();
  });
});

test("/v1 sends a refusal in the message history as text", async () => {
  const messages = [
    { role: "user", content: "Do it." },
    { role: "assistant", content: [{ type: "refusal", refusal: "I will not." }] },
    { role: "user", content: "Why?" },
  ];
  expect((await requestCompletion("healthy", { messages })).status).toBe(200);
  expect(JSON.stringify(server.listRequests("healthy").at(-1)?.body)).toContain("I will not.");
});
