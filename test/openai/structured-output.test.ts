import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Message } from "../../src/protocol/message.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { findRequiredFormat } from "../support/mock-provider/answer-format.ts";
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
      COMPATIBLE_BASE_URL: provider.openaiUrl,
      AI_MODELS: "openai/one,compatible/two,openai/gpt-4-turbo",
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

const schema = { type: "object", properties: { a: { type: "integer" } }, required: ["a"], additionalProperties: false };
const placeFormat = { type: "json_schema", json_schema: { name: "place", schema } };
const complete = (fields: object = {}) =>
  parley.fetch("/v1/chat/completions", {
    token: anna.access_token,
    json: {
      model: "openai/one",
      messages: [{ role: "user", content: "What?" }],
      response_format: placeFormat,
      ...fields,
    },
  });
type Body = {
  choices: { message: { content: string }; finish_reason: string }[];
  error?: { code: string; param: string | null; message: string; type: string };
};
const parseResponse = async (response: Response) => ({
  status: response.status,
  body: (await response.json()) as Body,
});

/** Reads a stream, and returns its text, its error, and whether it ended with [DONE]. */
async function readStream(response: Response) {
  const dataLines = (await response.text()).split("\n\n").filter((event) => event.startsWith("data: "));
  const isDone = dataLines.includes("data: [DONE]");
  const chunks = dataLines.filter((data) => data !== "data: [DONE]").map((data) => JSON.parse(data.slice(6)));
  const text = chunks.map((chunk) => chunk.choices?.[0]?.delta?.content ?? "").join("");
  return { text, isDone, error: chunks.find(({ error }) => error)?.error };
}

describe("response_format", () => {
  test("has no effect if it is text or null", async () => {
    provider.script("one", { text: "words" });
    for (const response_format of [{ type: "text" }, null])
      expect((await parseResponse(await complete({ response_format }))).body.choices[0]?.message.content).toBe("words");
    expect(provider.requests.map(({ body }) => findRequiredFormat(body))).toEqual([{}, {}]);
  });

  test("can be json_object even if no message mentions JSON", async () => {
    provider.script("one", { text: '{"a":1}' });
    const { body } = await parseResponse(await complete({ response_format: { type: "json_object" } }));
    expect(body.choices[0]?.message.content).toBe('{"a":1}');
    expect(findRequiredFormat(provider.requests[0]?.body ?? {}).type).toBe("json_object");
    provider.script("one", { text: "[1]" });
    expect((await parseResponse(await complete({ response_format: { type: "json_object" } }))).status).toBe(502);
  });

  test("sends all fields of json_schema to the provider", async () => {
    provider.script("one", { text: '{"a":1}' });
    const json_schema = { name: "place", description: "A place.", schema, strict: null };
    await complete({ response_format: { type: "json_schema", json_schema } });
    expect(findRequiredFormat(provider.requests[0]?.body ?? {})).toMatchObject({
      name: "place",
      description: "A place.",
      schema,
      strict: true,
    });
    await complete({ response_format: { type: "json_schema", json_schema: { ...json_schema, strict: false } } });
    expect(findRequiredFormat(provider.requests[1]?.body ?? {}).strict).toBe(false);
  });

  test("retries the request once if the text doesn't match the schema, then returns an error", async () => {
    provider.script("one", { text: '{"a":"x"}' }, { text: '{"a":2}' });
    expect((await parseResponse(await complete())).body.choices[0]?.message.content).toBe('{"a":2}');
    provider.script("one", { text: '{"a":"x"}' });
    expect(await parseResponse(await complete())).toMatchObject({
      status: 502,
      body: { error: { code: "invalid_output", type: "server_error", param: null } },
    });
    expect(provider.listRequests("two")).toHaveLength(0);
  });

  test("does not delay a stream, which ends with an error and without [DONE] if the text doesn't match", async () => {
    provider.script("one", { pieces: ['{"a":', "3}"] });
    expect(await readStream(await complete({ stream: true }))).toEqual({
      text: '{"a":3}',
      isDone: true,
      error: undefined,
    });
    provider.script("one", { pieces: ['{"a":', '"x"}'] });
    expect(await readStream(await complete({ stream: true }))).toMatchObject({
      text: '{"a":"x"}',
      isDone: false,
      error: { code: "invalid_output" },
    });
    // The text can't be withdrawn, so it isn't requested again.
    expect(provider.requests).toHaveLength(2);
  });

  test("ends a stream that would fail over to the next model, because a different model can't continue JSON", async () => {
    provider.script("one", { pieces: ['{"a":', '"never"'], fault: "cut", piecesBeforeFault: 1 });
    provider.script("two", { text: '{"a":1}' });
    const { text, isDone, error } = await readStream(await complete({ stream: true }));
    expect([text, isDone, error?.code]).toEqual(['{"a":', false, "provider_unavailable"]);
  });

  test("removes a code fence around the text, even in a stream", async () => {
    provider.script("one", { pieces: ["```json\n", '{"a":4}', "\n```"] });
    expect((await parseResponse(await complete())).body.choices[0]?.message.content).toBe('{"a":4}');
    expect(await readStream(await complete({ stream: true }))).toMatchObject({ text: '{"a":4}', isDone: true });
  });

  test("returns truncated text with its finish reason, as OpenAI's clients expect", async () => {
    provider.script("one", { text: '{"a":', finishReason: "length" });
    const { status, body } = await parseResponse(await complete());
    expect([status, body.choices[0]?.finish_reason, body.choices[0]?.message.content]).toEqual([
      200,
      "length",
      '{"a":',
    ]);
  });

  test("does not apply to tool calls", async () => {
    provider.script("one", { toolCalls: [{ name: "f", arguments: "{}" }] });
    const tools = [{ type: "function", function: { name: "f", parameters: { type: "object" } } }];
    expect((await parseResponse(await complete({ tools }))).body.choices[0]?.finish_reason).toBe("tool_calls");
  });

  const rejectedFormats: [string, object, string][] = [
    ["an unknown type", { type: "xml" }, "response_format.type"],
    ["no schema", { type: "json_schema" }, "response_format.json_schema"],
    ["no name", { type: "json_schema", json_schema: { schema } }, "response_format.json_schema.name"],
    [
      "an invalid schema",
      { type: "json_schema", json_schema: { name: "x", schema: { required: 5 } } },
      "response_format.json_schema.schema.required",
    ],
    [
      "an external reference",
      { type: "json_schema", json_schema: { name: "x", schema: { $ref: "http://127.0.0.1/s" } } },
      "response_format.json_schema.schema.$ref",
    ],
  ];
  test.each(rejectedFormats)(
    "with %s is rejected, and the error identifies the parameter",
    async (_name, response_format, param) => {
      const { status, body } = await parseResponse(await complete({ response_format }));
      expect([status, body.error?.type]).toEqual([400, "invalid_request_error"]);
      expect(body.error?.param?.replaceAll('"', "")).toBe(param);
      expect(provider.requests).toHaveLength(0);
    },
  );

  test("is rejected if the model doesn't support it, and the error mentions the model", async () => {
    const { status, body } = await parseResponse(await complete({ model: "openai/gpt-4-turbo" }));
    expect([status, body.error?.param]).toEqual([400, "response_format"]);
    expect(body.error?.message).toContain("openai/gpt-4-turbo");
    expect(provider.requests).toHaveLength(0);
  });

  test("stores the parsed output with the message", async () => {
    provider.script("one", { text: '{"a":7}' });
    const { id } = await createConversation(parley, anna);
    await complete({ metadata: { conversation_id: id } });
    const list = await parley.fetch(`/api/v1/conversations/${id}/messages`, { token: anna.access_token });
    expect(((await list.json()) as { data: Message[] }).data.at(-1)).toMatchObject({
      status: "complete",
      content: '{"a":7}',
      output: { a: 7 },
    });
  });
});
