import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import OpenAI from "openai";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import type { Message } from "../../src/protocol/message.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { CALL, listRecordings, type Recording } from "./recordings.ts";

const recordings = listRecordings();
const modelOf = ({ provider, name }: Recording) => `${provider}/${name}`;
/** One of each format, and one with multi-byte characters. */
const SPLIT = ["anthropic-tool-use", "ollama-text", "openai-responses-function-call", "openrouter-text", "vllm-error"];
const listEnded = (splitBytes: boolean, ...finishes: Recording["finish"][]): [string, Recording][] =>
  recordings
    .filter(({ name, finish }) => finishes.includes(finish) && (!splitBytes || SPLIT.includes(name)))
    .map((recording) => [recording.name, recording]);
const ANSWERED_WITHIN_MS = 5_000;

let provider: MockProvider;
let parley: TestApp;
let anna: Account;
let rest: Rest;
beforeAll(async () => {
  provider = startMockProvider();
  parley = await startApp({
    config: {
      OPENAI_API_KEY: "sk-test",
      OPENAI_BASE_URL: provider.openaiUrl,
      ANTHROPIC_API_KEY: "sk-ant-test",
      ANTHROPIC_BASE_URL: provider.anthropicUrl,
      COMPATIBLE_BASE_URL: provider.openaiUrl,
      // The first one continues when another fails.
      AI_MODELS: ["compatible/backup", ...recordings.map(modelOf)].join(","),
      AI_MAX_RETRIES: "0",
    },
  });
  anna = await parley.register();
  rest = createRest(parley, anna);
});
afterAll(async () => {
  await parley.stop();
  await provider.stop();
});

/** Sends a message to a conversation with the recording's model, and waits for the answer. */
async function say(recording: Recording): Promise<Message> {
  const { id } = await createConversation(parley, anna, [], { kind: "direct", model: modelOf(recording) });
  const path = `/conversations/${id}/messages`;
  const { body } = await rest.request<SentMessage>("POST", path, { content: "Hello?", reply: true });
  const endsAtMs = performance.now() + ANSWERED_WITHIN_MS;
  for (;;) {
    const answer = (await rest.get<Message>(`${path}/${body.reply?.id}`)).body;
    if (answer.status !== "streaming" || performance.now() > endsAtMs) return answer;
    await Bun.sleep(5);
  }
}

describe.each([
  ["event by event", false],
  ["byte by byte", true],
])("a recording sent %s", (_, splitBytes) => {
  test.each(listEnded(splitBytes, "stop", "length"))(
    "%s: text, usage and finish reason match",
    async (_, recording) => {
      provider.script(recording.name, { recording: recording.body, splitBytes });
      const answer = await say(recording);
      const [input_tokens, output_tokens] = recording.usage ?? [0, 0];
      expect(answer).toMatchObject({
        status: "complete",
        content: recording.text,
        finish_reason: recording.finish,
        model: modelOf(recording),
        usage: { input_tokens, output_tokens },
        error: null,
      });
    },
  );

  test.each(listEnded(splitBytes, "tool_calls"))("%s: the client receives the tool call", async (_, recording) => {
    provider.script(recording.name, { recording: recording.body, splitBytes });
    const client = new OpenAI({ baseURL: `${parley.url}/v1`, apiKey: anna.access_token, maxRetries: 0 });
    const { choices, usage } = await client.chat.completions.create({
      model: modelOf(recording),
      messages: [{ role: "user", content: "How is the weather in Paris?" }],
      tools: [{ type: "function", function: { name: CALL.name, parameters: { type: "object" } } }],
    });
    const [choice] = choices;
    expect(choice).toMatchObject({ finish_reason: "tool_calls", message: { content: recording.text || null } });
    const [call, ...more] = choice?.message.tool_calls ?? [];
    expect(more).toEqual([]);
    if (call?.type !== "function") throw new Error("No function was called.");
    expect(call.function.name).toBe(CALL.name);
    expect(JSON.parse(call.function.arguments)).toEqual(CALL.arguments);
    expect([usage?.prompt_tokens, usage?.completion_tokens]).toEqual(recording.usage ?? []);
  });

  test.each(listEnded(splitBytes, "error"))("%s: the next model continues where it broke off", async (_, recording) => {
    provider.script(recording.name, { recording: recording.body, splitBytes });
    provider.script("backup", { pieces: [" blue", "."] });
    const answer = await say(recording);
    expect(answer).toMatchObject({ status: "complete", content: `${recording.text} blue.`, finish_reason: "stop" });
    expect(answer.metadata.models).toEqual([modelOf(recording), "compatible/backup"]);
    expect(JSON.stringify(answer)).not.toMatch(/Overloaded|EngineCore|Sorry about that/);
  });
});
