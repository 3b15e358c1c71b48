import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import OpenAI from "openai";
import type { Message } from "../../src/protocol/message.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createRestClient } from "../support/rest.ts";
import { createFinish, pushText, startCompletionServer } from "../support/scripted-completion-server.ts";

let provider: MockProvider;
let parley: TestApp;

beforeAll(async () => {
  provider = startMockProvider();
  parley = await startApp({
    config: {
      OPENAI_API_KEY: "sk-test",
      OPENAI_BASE_URL: provider.openaiUrl,
      ANTHROPIC_API_KEY: "sk-ant-test",
      ANTHROPIC_BASE_URL: provider.anthropicUrl,
      AI_MODELS: "openai/reasons,anthropic/caches",
      AI_MAX_RETRIES: "0",
    },
  });
});
afterAll(async () => {
  await parley.stop();
  await provider.stop();
});

const messages = [{ role: "user" as const, content: "Hello" }];

test("usage is itemized in a completion and in a stream's last chunk", async () => {
  const server = startCompletionServer();
  server.scriptRun(async (push) => {
    pushText(push, "Hello");
    return createFinish({
      usage: {
        input_tokens: 1_000,
        output_tokens: 300,
        cached_input_tokens: 700,
        cache_write_tokens: 200,
        reasoning_tokens: 250,
        estimated: false,
      },
    });
  });
  const client = new OpenAI({ apiKey: "k", baseURL: server.url, maxRetries: 0 });
  const usage = {
    prompt_tokens: 1_000,
    completion_tokens: 300,
    total_tokens: 1_300,
    prompt_tokens_details: { cached_tokens: 700, cache_write_tokens: 200, audio_tokens: 0 },
    completion_tokens_details: {
      reasoning_tokens: 250,
      audio_tokens: 0,
      accepted_prediction_tokens: 0,
      rejected_prediction_tokens: 0,
    },
  };
  const completion = await client.chat.completions.create({ model: "a/b", messages });
  expect(completion.usage).toEqual(usage);
  const stream = await client.chat.completions.create({
    model: "a/b",
    messages,
    stream: true,
    stream_options: { include_usage: true },
  });
  let lastUsage: OpenAI.CompletionUsage | null | undefined;
  for await (const chunk of stream) lastUsage = chunk.usage;
  expect(lastUsage).toEqual(usage);
  await server.stop();
});

const readRecording = (name: string) =>
  readFileSync(join(import.meta.dir, `../support/recordings/${name}.sse`), "utf8");

test.each([
  [
    "openai/reasons",
    "openai-responses-reasoning",
    { prompt_tokens: 24, completion_tokens: 206, completion_tokens_details: { reasoning_tokens: 192 } },
  ],
  ["anthropic/caches", "anthropic-text", { prompt_tokens: 2_316, completion_tokens: 12, total_tokens: 2_328 }],
])("the usage of %s matches what is stored and charged", async (model, recording, usage) => {
  provider.script(model.split("/")[1] ?? "", { recording: readRecording(recording) });
  const anna = await parley.register();
  const rest = createRestClient(parley, anna);
  const { id: conversation_id } = await createConversation(parley, anna);
  const client = new OpenAI({ apiKey: anna.access_token, baseURL: `${parley.url}/v1`, maxRetries: 0 });
  const completion = await client.chat.completions.create({ model, messages, metadata: { conversation_id } });
  expect(completion.usage).toMatchObject(usage);
  const id = completion.id.replace("chatcmpl-", "");
  const storedMessage = await rest.get<Message>(`/conversations/${conversation_id}/messages/${id}`);
  expect(storedMessage.body.usage).toMatchObject({
    input_tokens: usage.prompt_tokens,
    output_tokens: usage.completion_tokens,
  });
  const usageSummary = await rest.get<{ day: object }>("/me/usage");
  expect(usageSummary.body.day).toMatchObject({ spent_tokens: usage.prompt_tokens + usage.completion_tokens });
});
