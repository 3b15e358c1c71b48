import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import OpenAI from "openai";
import { startRejectingServer } from "../ai/rejecting-server.ts";
import { createUnsupportedError } from "../ai/rejections.ts";
import { startApp, type TestApp } from "../support/app.ts";

let provider: ReturnType<typeof startRejectingServer>;
let parley: TestApp;
let client: OpenAI;

beforeAll(async () => {
  provider = startRejectingServer();
  parley = await startApp({
    config: {
      OPENAI_API_KEY: "sk-test",
      OPENAI_BASE_URL: provider.urls.openaiUrl,
      COMPATIBLE_BASE_URL: provider.urls.openaiUrl,
      AI_MODELS: "compatible/own,openai/own,compatible/spare",
      AI_MAX_RETRIES: "0",
    },
  });
  const { access_token: apiKey } = await parley.register();
  client = new OpenAI({ apiKey, baseURL: `${parley.url}/v1`, maxRetries: 0 });
});
afterAll(async () => {
  await parley.stop();
  await provider.stop();
});
beforeEach(() => {
  provider.rejectWith((body) =>
    "temperature" in body ? { status: 400, body: createUnsupportedError("temperature") } : null,
  );
});

const messages = [{ role: "user" as const, content: "Hello" }];

test.each(["compatible/own", "openai/own"])(
  "%s answers even if it rejects a field that the client set",
  async (model) => {
    const complete = () => client.chat.completions.create({ model, messages, temperature: 0.2, top_p: 0.9 });
    for (const requests of [2, 3]) {
      const completion = await complete();
      expect([completion.model, completion.choices[0]?.message.content, provider.bodies.length]).toEqual([
        model,
        "Done.",
        requests,
      ]);
      // Only the answer is charged, not the rejected request.
      expect(completion.usage?.prompt_tokens).toBe(11);
    }
    expect(provider.bodies.map((body) => [body.model, body.temperature, body.top_p])).toEqual([
      ["own", 0.2, 0.9],
      ["own", undefined, 0.9],
      ["own", undefined, 0.9],
    ]);
  },
);

test("a model streams its answer even if it rejects a field that the client set", async () => {
  const stream = await client.chat.completions.create({
    model: "compatible/spare",
    messages,
    temperature: 0.2,
    stream: true,
  });
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
  expect([text, provider.bodies.length]).toEqual(["Done.", 2]);
});

test.each(["compatible/own", "openai/own"])("%s answers even if it rejects a hint", async (model) => {
  provider.rejectWith((body) =>
    "safety_identifier" in body ? { status: 400, body: createUnsupportedError("safety_identifier") } : null,
  );
  for (const requests of [2, 3]) {
    const completion = await client.chat.completions.create({ model, messages, safety_identifier: "s1", user: "u1" });
    expect([completion.choices[0]?.message.content, provider.bodies.length]).toEqual(["Done.", requests]);
  }
  expect(provider.bodies.map((body) => [body.safety_identifier, body.user])).toEqual([
    ["s1", "u1"],
    [undefined, "u1"],
    [undefined, "u1"],
  ]);
});

test("if the model rejects any other field, the error is returned to the client", async () => {
  provider.rejectWith((body) => ("min_p" in body ? { status: 400, body: createUnsupportedError("min_p") } : null));
  const json = { model: "compatible/own", messages, min_p: 0.1 };
  const failedRequest = client.post("/chat/completions", { body: json }).then(() => null);
  expect(await failedRequest.catch((error: unknown) => error)).toMatchObject({
    status: 400,
    code: "unsupported_parameter",
    param: "min_p",
  });
});
