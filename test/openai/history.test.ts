import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { startApp, type TestApp } from "../support/app.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";

let provider: MockProvider;
let parley: TestApp;
let token: string;

beforeAll(async () => {
  provider = startMockProvider();
  parley = await startApp({ config: { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/one" } });
  token = (await parley.register()).access_token;
});
afterAll(async () => {
  await parley.stop();
  await provider.stop();
});

const helloMessage = { role: "user", content: "Hello" };
const sendHistory = (...history: object[]) =>
  parley.fetch("/v1/chat/completions", {
    token,
    json: { model: "compatible/one", messages: [...history, helloMessage] },
  });
const createRefusalPart = (refusal: unknown) => ({ type: "refusal", refusal });
const createTextPart = (text: string) => ({ type: "text", text });

describe("an assistant message in the history", () => {
  test.each<[string, Record<string, unknown>, string]>([
    ["a refusal part", { content: [createRefusalPart("I can't help with that.")] }, "I can't help with that."],
    [
      "a text part and a refusal part, with the null fields that SDKs add",
      {
        content: [
          { ...createTextPart("Well."), refusal: null },
          { ...createRefusalPart("No."), text: null },
        ],
        refusal: null,
      },
      "Well.\nNo.",
    ],
    ["a refusal instead of content", { content: null, refusal: "No." }, "No."],
    ["a refusal without the content field", { refusal: "No." }, "No."],
    ["a refusal with empty content", { content: "", refusal: "No." }, "No."],
    ["a refusal with text", { content: "Well.", refusal: "No." }, "Well.\nNo."],
    ["an empty list of tool calls", { content: "Well.", tool_calls: [] }, "Well."],
    ["a refusal and an empty list of tool calls", { content: null, tool_calls: [], refusal: "No." }, "No."],
    ["the fields of Parley's own answers", { content: "Well.", refusal: null, annotations: [], audio: null }, "Well."],
  ])("with %s is passed on as text", async (_name, message, content) => {
    const response = await sendHistory(helloMessage, { role: "assistant", ...message });
    expect(response.status).toBe(200);
    expect(provider.requests.at(-1)?.body.messages).toEqual([
      helloMessage,
      { role: "assistant", content },
      helloMessage,
    ]);
  });

  test("with a refusal and tool calls is passed on with the tool results", async () => {
    const call = { id: "c1", type: "function", function: { name: "f", arguments: "{}" } };
    const response = await sendHistory(
      helloMessage,
      { role: "assistant", content: null, refusal: "Only this much.", tool_calls: [call] },
      { role: "tool", tool_call_id: "c1", content: "x" },
    );
    expect(response.status).toBe(200);
    expect(provider.requests.at(-1)?.body.messages).toMatchObject([
      helloMessage,
      { role: "assistant", content: "Only this much.", tool_calls: [call] },
      { role: "tool", content: "x" },
      helloMessage,
    ]);
  });
});

test.each<[string, object, string]>([
  ["a part of an unknown type", { role: "assistant", content: [{ type: "audio" }] }, "messages[0].content[0].type"],
  ["a user's refusal", { role: "user", content: [createRefusalPart("No.")] }, "messages[0].content[0].type"],
  [
    "a refusal part without text",
    { role: "assistant", content: [createTextPart("x"), { type: "refusal" }] },
    "messages[0].content[1].refusal",
  ],
  ["a text part without text", { role: "user", content: [{ type: "text" }] }, "messages[0].content[0].text"],
  [
    "a refusal that is not a string",
    { role: "assistant", content: [createRefusalPart(7)] },
    "messages[0].content[0].refusal",
  ],
  ["an empty assistant message", { role: "assistant", content: null, tool_calls: [] }, "messages[0].content"],
  ["an assistant message with an empty refusal", { role: "assistant", refusal: "" }, "messages[0].content"],
  ["a deprecated function role", { role: "function", name: "f", content: "x" }, "messages[0].role"],
])("%s is rejected with 400, and the error states its location", async (_name, message, param) => {
  const requestCount = provider.requests.length;
  const response = await sendHistory(message);
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({ error: { type: "invalid_request_error", param } });
  expect(provider.requests.length).toBe(requestCount);
});
