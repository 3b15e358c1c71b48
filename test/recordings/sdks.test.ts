import { afterAll, beforeAll, expect, test } from "bun:test";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { listRecordings, type Recording } from "./recordings.ts";

// The recordings were not captured from real traffic. This test shows that they have the providers' formats, because the
// providers' SDKs read the expected results from them.

const messages = [{ role: "user" as const, content: "Hello?" }];
/** Matches the messages of the recorded errors. */
const errorPattern = /had an error|EngineCore|Overloaded/;
let provider: MockProvider;
let openai: OpenAI;
let anthropic: Anthropic;
beforeAll(() => {
  provider = startMockProvider();
  openai = new OpenAI({ apiKey: "sk-test", baseURL: provider.openaiUrl, maxRetries: 0 });
  anthropic = new Anthropic({ apiKey: "sk-ant-test", baseURL: provider.anthropicUrl, maxRetries: 0 });
});
afterAll(() => provider.stop());

type Result = Pick<Recording, "text" | "finish" | "usage">;

async function readResponses(model: string): Promise<Result> {
  const response = await openai.responses.stream({ model, input: messages, store: false }).finalResponse();
  const hasCall = response.output.some(({ type }) => type === "function_call");
  const { input_tokens = 0, output_tokens = 0 } = response.usage ?? {};
  const finish = response.status === "incomplete" ? "length" : hasCall ? "tool_calls" : "stop";
  return { text: response.output_text, finish, usage: [input_tokens, output_tokens] };
}

async function readChat(model: string): Promise<Result> {
  let usage: Result["usage"] = null;
  let text = "";
  let finish = "";
  for await (const chunk of await openai.chat.completions.create({ model, messages, stream: true })) {
    if (chunk.usage) usage = [chunk.usage.prompt_tokens, chunk.usage.completion_tokens];
    text += chunk.choices[0]?.delta.content ?? "";
    finish = chunk.choices[0]?.finish_reason ?? finish;
  }
  return { text, finish: finish as Result["finish"], usage };
}

const stopReasons: Record<string, Result["finish"]> = {
  end_turn: "stop",
  max_tokens: "length",
  tool_use: "tool_calls",
};

async function readMessages(model: string): Promise<Result> {
  const message = await anthropic.messages.stream({ model, max_tokens: 1_000, messages }).finalMessage();
  const { input_tokens, cache_read_input_tokens, cache_creation_input_tokens, output_tokens } = message.usage;
  return {
    text: message.content.map((block) => (block.type === "text" ? block.text : "")).join(""),
    finish: stopReasons[message.stop_reason ?? ""] ?? "error",
    usage: [input_tokens + (cache_read_input_tokens ?? 0) + (cache_creation_input_tokens ?? 0), output_tokens],
  };
}

const readers = { openai: readResponses, compatible: readChat, anthropic: readMessages };

test.each(listRecordings().map((recording): [string, Recording] => [recording.name, recording]))(
  "the provider's SDK reads %s",
  async (name, { provider: providerName, body, ...expected }) => {
    provider.script(name, { recording: body });
    const result = readers[providerName](name);
    if (expected.finish === "error") return void (await expect(result).rejects.toThrow(errorPattern));
    const { text, finish, usage } = expected;
    expect(await result).toEqual({ text, finish, usage });
  },
);
