import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import OpenAI from "openai";
import { startRejectingServer } from "../ai/rejecting-server.ts";
import { unsupported } from "../ai/rejections.ts";
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
  provider.refuse((body) => ("temperature" in body ? { status: 400, body: unsupported("temperature") } : null));
});

const messages = [{ role: "user" as const, content: "Hello" }];

test.each(["compatible/own", "openai/own"])(
  "%s answers although it refuses a field that the client set",
  async (model) => {
    const ask = () => client.chat.completions.create({ model, messages, temperature: 0.2, top_p: 0.9 });
    for (const requests of [2, 3]) {
      const answer = await ask();
      expect([answer.model, answer.choices[0]?.message.content, provider.bodies.length]).toEqual([
        model,
        "Done.",
        requests,
      ]);
      // Only the answer is charged.
      expect(answer.usage?.prompt_tokens).toBe(11);
    }
    expect(provider.bodies.map((body) => [body.model, body.temperature, body.top_p])).toEqual([
      ["own", 0.2, 0.9],
      ["own", undefined, 0.9],
      ["own", undefined, 0.9],
    ]);
  },
);

test("also in a stream", async () => {
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

test.each(["compatible/own", "openai/own"])("%s answers although it refuses a hint", async (model) => {
  provider.refuse((body) =>
    "safety_identifier" in body ? { status: 400, body: unsupported("safety_identifier") } : null,
  );
  for (const requests of [2, 3]) {
    const answer = await client.chat.completions.create({ model, messages, safety_identifier: "s1", user: "u1" });
    expect([answer.choices[0]?.message.content, provider.bodies.length]).toEqual(["Done.", requests]);
  }
  expect(provider.bodies.map((body) => [body.safety_identifier, body.user])).toEqual([
    ["s1", "u1"],
    [undefined, "u1"],
    [undefined, "u1"],
  ]);
});

test("a refusal of any other field is returned to the client", async () => {
  provider.refuse((body) => ("min_p" in body ? { status: 400, body: unsupported("min_p") } : null));
  const json = { model: "compatible/own", messages, min_p: 0.1 };
  const failed = client.post("/chat/completions", { body: json }).then(() => null);
  expect(await failed.catch((error: unknown) => error)).toMatchObject({
    status: 400,
    code: "unsupported_parameter",
    param: "min_p",
  });
});
