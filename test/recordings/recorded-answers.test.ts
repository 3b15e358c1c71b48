import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import OpenAI from "openai";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import type { Message } from "../../src/protocol/message.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { EXPECTED_CALL, listRecordings, type Recording } from "./recordings.ts";

const recordings = listRecordings();
const getModel = ({ provider, name }: Recording) => `${provider}/${name}`;
/** The recordings that are also sent byte by byte: one recording in each format, and one with multi-byte characters. */
const SPLIT_NAMES = [
  "anthropic-tool-use",
  "ollama-text",
  "openai-responses-function-call",
  "openrouter-text",
  "vllm-error",
];
const listByFinish = (splitBytes: boolean, ...finishes: Recording["finish"][]): [string, Recording][] =>
  recordings
    .filter(({ name, finish }) => finishes.includes(finish) && (!splitBytes || SPLIT_NAMES.includes(name)))
    .map((recording) => [recording.name, recording]);
const ANSWER_TIMEOUT_MS = 5_000;

let provider: MockProvider;
let parley: TestApp;
let anna: Account;
let rest: RestClient;
beforeAll(async () => {
  provider = startMockProvider();
  parley = await startApp({
    config: {
      OPENAI_API_KEY: "sk-test",
      OPENAI_BASE_URL: provider.openaiUrl,
      ANTHROPIC_API_KEY: "sk-ant-test",
      ANTHROPIC_BASE_URL: provider.anthropicUrl,
      COMPATIBLE_BASE_URL: provider.openaiUrl,
      // The first model takes over when another fails.
      AI_MODELS: ["compatible/backup", ...recordings.map(getModel)].join(","),
      AI_MAX_RETRIES: "0",
    },
  });
  anna = await parley.register();
  rest = createRestClient(parley, anna);
});
afterAll(async () => {
  await parley.stop();
  await provider.stop();
});

/** Sends a message to a conversation with the recording's model, and waits for the answer. */
async function requestAnswer(recording: Recording): Promise<Message> {
  const { id } = await createConversation(parley, anna, [], { kind: "direct", model: getModel(recording) });
  const path = `/conversations/${id}/messages`;
  const { body } = await rest.request<SentMessage>("POST", path, { content: "Hello?", reply: true });
  const deadlineMs = performance.now() + ANSWER_TIMEOUT_MS;
  for (;;) {
    const answer = (await rest.get<Message>(`${path}/${body.reply?.id}`)).body;
    if (answer.status !== "streaming" || performance.now() > deadlineMs) return answer;
    await Bun.sleep(5);
  }
}

describe.each([
  ["event by event", false],
  ["byte by byte", true],
])("a recording sent %s", (_, splitBytes) => {
  test.each(listByFinish(splitBytes, "stop", "length"))(
    "is returned with its text, usage and finish reason (%s)",
    async (_, recording) => {
      provider.script(recording.name, { recording: recording.body, splitBytes });
      const answer = await requestAnswer(recording);
      const [input_tokens, output_tokens] = recording.usage ?? [0, 0];
      expect(answer).toMatchObject({
        status: "complete",
        content: recording.text,
        finish_reason: recording.finish,
        model: getModel(recording),
        usage: { input_tokens, output_tokens },
        error: null,
      });
    },
  );

  test.each(listByFinish(splitBytes, "tool_calls"))("is returned with its tool call (%s)", async (_, recording) => {
    provider.script(recording.name, { recording: recording.body, splitBytes });
    const client = new OpenAI({ baseURL: `${parley.url}/v1`, apiKey: anna.access_token, maxRetries: 0 });
    const { choices, usage } = await client.chat.completions.create({
      model: getModel(recording),
      messages: [{ role: "user", content: "What's the weather like in Paris?" }],
      tools: [{ type: "function", function: { name: EXPECTED_CALL.name, parameters: { type: "object" } } }],
    });
    const [choice] = choices;
    expect(choice).toMatchObject({ finish_reason: "tool_calls", message: { content: recording.text || null } });
    const [call, ...otherCalls] = choice?.message.tool_calls ?? [];
    expect(otherCalls).toEqual([]);
    if (call?.type !== "function") throw new Error("No function was called.");
    expect(call.function.name).toBe(EXPECTED_CALL.name);
    expect(JSON.parse(call.function.arguments)).toEqual(EXPECTED_CALL.arguments);
    expect([usage?.prompt_tokens, usage?.completion_tokens]).toEqual(recording.usage ?? []);
  });

  test.each(listByFinish(splitBytes, "error"))(
    "is continued by the next model after its error (%s)",
    async (_, recording) => {
      provider.script(recording.name, { recording: recording.body, splitBytes });
      provider.script("backup", { pieces: [" blue", "."] });
      const answer = await requestAnswer(recording);
      expect(answer).toMatchObject({ status: "complete", content: `${recording.text} blue.`, finish_reason: "stop" });
      expect(answer.metadata.models).toEqual([getModel(recording), "compatible/backup"]);
      expect(JSON.stringify(answer)).not.toMatch(/Overloaded|EngineCore|Sorry about that/);
    },
  );
});
