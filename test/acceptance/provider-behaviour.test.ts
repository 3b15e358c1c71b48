import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type Chat, openChat } from "./chat.ts";
import {
  completionChunks,
  nothing,
  type Reply,
  type ScriptedServer,
  type SeenRequest,
  slowStream,
  startScriptedServer,
  stream,
  whole,
} from "./scripted-server.ts";
import { createSite, type Parley, type Site, TEST_TIMEOUT_MS } from "./site.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const FIRST_TOKEN_TIMEOUT_MS = 1_000;
const ANSWER_TIMEOUT_MS = 6_000;
const HEALTHY = "compatible/healthy";

const delta = (fields: unknown, finish_reason: string | null = null) => ({
  choices: [{ index: 0, delta: fields, finish_reason }],
});
const event = (data: unknown): string => `data: ${JSON.stringify(data)}\n\n`;
const fine = completionChunks("Fine.")
  .map((data) => (data === "[DONE]" ? "data: [DONE]\n\n" : event(data)))
  .join("");
/** Signs of life with pauses below the idle timeout, and a total far above it. */
const keptAlive = (packet: string): Reply => slowStream(...Array.from({ length: 5 }, () => [600, packet]).flat(), fine);
const errorPage = (bytes: number): Reply => whole(500, "x".repeat(bytes), { "content-type": "text/html" });
/** Events and pings for longer than the answer timeout. */
const endless = slowStream(...Array.from({ length: 60 }, () => [500, ": ping\n\n"]).flat());
const parameterError = (param: string): Reply =>
  whole(400, {
    error: {
      message: `Unsupported parameter: '${param}' is not supported with this model.`,
      type: "invalid_request_error",
      param,
      code: "unsupported_parameter",
    },
  });
const call = (fields: Record<string, unknown>) => delta({ tool_calls: [fields] });
const fn = (name: unknown, text: unknown) => ({ function: { name, arguments: text } });

type ReplyTo = (request: SeenRequest, count: number) => Reply;

const models: Record<string, ReplyTo> = {
  pings: () => keptAlive(": ping\n\n"),
  reasoning: () => keptAlive(event(delta({ reasoning_content: "Hm. " }))),
  "empty-deltas": () => keptAlive(event(delta({ content: "" }))),
  "role-only": () => keptAlive(event(delta({ role: "assistant" }))),
  endless: () => endless,
  "error-then-end": () => stream({ error: { message: "overloaded", code: 503 } }, "[DONE]"),
  "long-page": () => errorPage(100 * 1024),
  "page-of-a-megabyte": () => errorPage(1024 * 1024),
  "closes-waiting": (_request, count) => (count <= 3 ? stream(...completionChunks("Fine.")) : nothing),
  temperature: ({ body }) =>
    "temperature" in body ? parameterError("temperature") : stream(...completionChunks("Fine.")),
  "stream-options": ({ body }) =>
    "stream_options" in body
      ? whole(422, {
          detail: [{ type: "extra_forbidden", loc: ["body", "stream_options"], msg: "Extra inputs are not permitted" }],
        })
      : stream(...completionChunks("Fine.")),
  "max-tokens": ({ body }) =>
    "max_tokens" in body
      ? whole(400, {
          error: {
            message:
              "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            param: "max_tokens",
            code: "unsupported_parameter",
          },
        })
      : stream(...completionChunks("Fine.")),
  slow: () =>
    slowStream(
      event(delta({ content: "word " })),
      ...Array.from({ length: 80 }, () => [250, event(delta({ content: "word " }))]).flat(),
    ),
  "refused-late": () => ({
    ...whole(400, { error: { message: "too long", code: "context_length_exceeded" } }),
    packets: [3_000, ...whole(400, { error: { message: "too long", code: "context_length_exceeded" } }).packets],
  }),
  "silent-then-fine": () =>
    slowStream(
      ": hello\n\n",
      ...Array.from({ length: 10 }, () => [600, event(delta({ role: "assistant" }))])
        .flat()
        .slice(0, 8),
      fine,
    ),
  redirects: () => whole(302, "", { location: "https://user:secret@elsewhere.example.com/v1?key=secret" }),
  "null-arguments": () =>
    stream(
      call({ index: 0, id: "a", ...fn("one", null) }),
      call({ index: 0, ...fn(null, '{"x":1}') }),
      delta({}, "tool_calls"),
    ),
  "same-index": () =>
    stream(
      call({ index: 0, ...fn("one", '{"x":1}') }),
      call({ index: 0, ...fn("two", '{"y":2}') }),
      delta({}, "tool_calls"),
    ),
  "same-function": () =>
    stream(
      call({ index: 0, ...fn("one", '{"x":1}') }),
      call({ index: 0, ...fn("one", '{"x":2}') }),
      delta({}, "tool_calls"),
    ),
  "no-indexes": () =>
    stream(delta({ tool_calls: [fn("one", '{"x":1}'), fn("two", '{"y":2}')] }), delta({}, "tool_calls")),
  "name-null": () =>
    stream(
      call({ index: 0, id: "a", ...fn("one", '{"x"') }),
      call({ index: 0, id: "null", ...fn("null", ":1}") }),
      delta({}, "tool_calls"),
    ),
  "changing-ids": () =>
    stream(
      call({ index: 0, id: "a", ...fn("one", '{"x"') }),
      call({ index: 0, id: "b", ...fn("", ":1}") }),
      delta({}, "tool_calls"),
    ),
  "object-arguments": () => stream(call({ index: 0, id: "a", ...fn("one", { x: 1 }) }), delta({}, "tool_calls")),
};

/** Waits for the condition, longer than any timeout of these tests. */
async function waitUntil(isMet: () => boolean): Promise<void> {
  for (let leftMs = 5_000; !isMet(); leftMs -= 10) {
    if (leftMs <= 0) throw new Error("The condition was not met in time.");
    await Bun.sleep(10);
  }
}

let server: ScriptedServer;
let site: Site;
let parley: Parley;
let chat: Chat;

beforeAll(async () => {
  server = startScriptedServer(
    (request, count) => models[request.model]?.(request, count) ?? stream(...completionChunks("Healthy.")),
  );
  site = await createSite({
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
  parley = await site.start();
  chat = await openChat(parley);
});
afterAll(async () => {
  await chat?.socket.close();
  await site?.remove();
  server?.stop();
});

async function askModel(model: string) {
  const id = await chat.ask(`compatible/${model}`);
  return (await chat.readToEnd(id, 20_000)).message;
}

const complete = (model: string, body: Record<string, unknown> = {}): Promise<Response> =>
  parley.fetch("/v1/chat/completions", {
    token: chat.account.access_token,
    json: { model: `compatible/${model}`, messages: [{ role: "user", content: "Hello" }], ...body },
  });

describe("any received byte resets the idle timeout", () => {
  test.each(["pings", "reasoning", "empty-deltas", "role-only"])("%s", async (model) => {
    expect(await askModel(model)).toMatchObject({ status: "complete", content: "Fine.", model: `compatible/${model}` });
    expect(server.requestsOf(model).length).toBe(1);
  });

  test("an endless stream without content hits the answer timeout, and isn't retried on another model", async () => {
    const startedMs = performance.now();
    const message = await askModel("endless");
    expect(message).toMatchObject({
      status: "failed",
      error: { code: "provider_timeout" },
      model: "compatible/endless",
    });
    expect(performance.now() - startedMs).toBeWithin(ANSWER_TIMEOUT_MS - 500, ANSWER_TIMEOUT_MS + 3_000);
    await waitUntil(() => server.aborted.some(({ model }) => model === "endless"));
  });
});

describe("connections", () => {
  test.each(["error-then-end", "long-page", "page-of-a-megabyte"])(
    "after ten times %s, a healthy server still responds in time",
    async (model) => {
      for (let index = 0; index < 10; index += 1) await complete(model);
      const startedMs = performance.now();
      const statuses = await Promise.all(Array.from({ length: 12 }, async () => (await complete("healthy")).status));
      expect(statuses).toEqual(Array(12).fill(200));
      expect(performance.now() - startedMs).toBeLessThan(FIRST_TOKEN_TIMEOUT_MS);
    },
  );

  test("repeats a billable request at most once when an idle connection was closed", async () => {
    await Promise.all([1, 2, 3].map(() => complete("closes-waiting")));
    const before = server.requestsOf("closes-waiting").length;
    const response = await complete("closes-waiting");
    expect(server.requestsOf("closes-waiting").length - before).toBeLessThanOrEqual(2);
    expect(((await response.json()) as { model: string }).model).toBe(HEALTHY);
  });

  test("sends the base URL's user as Basic authorization, and never logs it", async () => {
    await complete("healthy");
    const { headers } = server.requestsOf("healthy").at(-1) as SeenRequest;
    expect(/^authorization: (.*)$/im.exec(headers)?.[1]).toBe(`Basic ${btoa("user:pass word")}`);
    expect(site.readLog()).not.toMatch(/pass(%20| )word/);
  });

  test("rejects a redirect, and logs its target without secrets", async () => {
    expect(await askModel("redirects")).toMatchObject({ model: HEALTHY });
    expect(server.requestsOf("redirects").length).toBe(1);
    expect(site.readLog()).toContain("https://elsewhere.example.com/v1");
    expect(site.readLog()).not.toContain("secret");
  });
});

describe("parameters that a model rejects", () => {
  test.each([
    ["temperature", { temperature: 0.2 }],
    ["stream-options", {}],
    ["max-tokens", { max_tokens: 50 }],
  ])("%s: retries once without it, and omits it from later requests", async (model, body) => {
    const first = (await (await complete(model, body)).json()) as { model: string };
    expect([first.model, server.requestsOf(model).length]).toEqual([`compatible/${model}`, 2]);
    const second = (await (await complete(model, body)).json()) as { model: string };
    expect([second.model, server.requestsOf(model).length]).toEqual([`compatible/${model}`, 3]);
    const { body: sent } = server.requestsOf(model).at(-1) as SeenRequest;
    if (model === "max-tokens") expect(sent).toMatchObject({ max_completion_tokens: 50 });
  });
});

describe("tool calls", () => {
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
  ])("%s", async (model, expected) => {
    const body = (await (await complete(model, { tools })).json()) as {
      choices: { message: { tool_calls: { id: string; function: unknown }[] }; finish_reason: string }[];
    };
    const [choice] = body.choices;
    expect(choice?.finish_reason).toBe("tool_calls");
    expect(choice?.message.tool_calls.map((call) => call.function)).toEqual(expected);
    expect(new Set(choice?.message.tool_calls.map(({ id }) => id)).size).toBe(expected.length);
  });
});

describe("/v1 streams", () => {
  const readAll = async (response: Response) => ({ status: response.status, text: await response.text() });

  test("a stream starts after 2 s at the latest, and stays open", async () => {
    const startedMs = performance.now();
    const response = await complete("refused-late", { stream: true, model: "openai/refused-late" });
    expect(performance.now() - startedMs).toBeWithin(1_500, 2_900);
    expect((await readAll(response)).text).toContain("Healthy.");
  });

  test("a stream starts with the model's first byte", async () => {
    const startedMs = performance.now();
    const response = await complete("silent-then-fine", { stream: true });
    expect(performance.now() - startedMs).toBeLessThan(1_000);
    const { text } = await readAll(response);
    expect(text).toContain("Fine.");
    expect(text).toEndWith("data: [DONE]\n\n");
  });
});

describe("concurrent requests", () => {
  test("of several concurrent regenerates, one runs and the others conflict", async () => {
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

  test("deleting the conversation aborts the provider request within 2 s", async () => {
    const other = await openChat(parley);
    const before = server.aborted.length;
    await other.ask("compatible/slow");
    await waitUntil(() => server.requestsOf("slow").length >= 2);
    const deleted = await parley.fetch(`/api/v1/conversations/${other.conversationId}`, {
      token: other.account.access_token,
      method: "DELETE",
    });
    expect(deleted.status).toBe(204);
    const startedMs = performance.now();
    await waitUntil(() => server.aborted.length > before);
    expect(performance.now() - startedMs).toBeLessThan(2_000);
    await other.socket.close();
  });
});

test("accepts a refusal in the history of /v1 as text", async () => {
  const messages = [
    { role: "user", content: "Do it." },
    { role: "assistant", content: [{ type: "refusal", refusal: "I will not." }] },
    { role: "user", content: "Why?" },
  ];
  expect((await complete("healthy", { messages })).status).toBe(200);
  expect(JSON.stringify(server.requestsOf("healthy").at(-1)?.body)).toContain("I will not.");
});
