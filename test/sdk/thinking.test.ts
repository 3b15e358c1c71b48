import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { type BaseMessage, HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool as createLangChainTool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { generateText, type LanguageModel, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";
import { z } from "zod";
import type { ThinkingFormat } from "../support/mock-provider/thinking.ts";
import { type SdkParley, startSdkParley } from "./start-parley.ts";

let parley: SdkParley;
beforeAll(async () => {
  parley = await startSdkParley();
});
beforeEach(() => parley.provider.reset());
afterAll(() => parley.stop());

const modelFormats: [string, ThinkingFormat][] = [
  ["anthropic/two", "signed"],
  ["openai/one", "encrypted"],
  ["compatible/three", "plain"],
  ["compatible/three", "signature"],
  ["compatible/three", "details"],
];
const call = { name: "get_weather", arguments: '{"city":"Paris"}' };
const prompt = "What's the weather like in Paris?";
const tools = {
  get_weather: tool({
    description: "Returns the weather in a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: async () => "rain",
  }),
};

function scriptToolLoop(id: string, thinkingFormat: ThinkingFormat): void {
  parley.script(
    id,
    { toolCalls: [call, call], thinkingFormat },
    { toolCalls: [call], thinkingFormat },
    { text: "It's raining.", thinkingFormat },
  );
}

describe("@ai-sdk/openai-compatible sends thinking back in the signatures of tool calls", () => {
  const createModel = (id: string): LanguageModel =>
    createOpenAICompatible({ name: "parley", apiKey: parley.apiKey, baseURL: parley.baseURL })(id);

  test.each(modelFormats)("to %s (%s), with and without a stream", async (id, thinkingFormat) => {
    scriptToolLoop(id, thinkingFormat);
    const { text } = await generateText({ model: createModel(id), prompt, stopWhen: stepCountIs(4), tools });
    expect([text, parley.provider.thinkingErrors]).toEqual(["It's raining.", []]);
    scriptToolLoop(id, thinkingFormat);
    const stream = streamText({ model: createModel(id), prompt, stopWhen: stepCountIs(4), tools });
    expect([await stream.text, parley.provider.thinkingErrors]).toEqual(["It's raining.", []]);
    expect(parley.provider.requests).toHaveLength(6);
  });
});

const description = "Returns the weather in a city.";
const execute = async ({ city }: { city: string }) => `rain in ${city}`;

/** Tool loops of clients that send back only text and tool calls. */
const loopsWithoutThinking = {
  "openai, runTools": async (model: string) => {
    const client = new OpenAI({ apiKey: parley.apiKey, baseURL: parley.baseURL });
    const parameters = { type: "object", properties: { city: { type: "string" } } };
    const weather = { name: "get_weather", description, parameters, parse: JSON.parse, function: execute };
    const runner = client.chat.completions.runTools({
      model,
      messages: [{ role: "user", content: prompt }],
      tools: [{ type: "function", function: weather }],
    });
    return runner.finalContent();
  },
  "@ai-sdk/openai": async (id: string) => {
    const model = createOpenAI({ apiKey: parley.apiKey, baseURL: parley.baseURL }).chat(id);
    return (await generateText({ model, prompt, stopWhen: stepCountIs(4), tools })).text;
  },
  "@langchain/openai": async (model: string) => {
    const schema = z.object({ city: z.string() });
    const weather = createLangChainTool(execute, { name: "get_weather", description, schema });
    const chat = new ChatOpenAI({ model, apiKey: parley.apiKey, configuration: { baseURL: parley.baseURL } });
    const messages: BaseMessage[] = [new HumanMessage(prompt)];
    for (;;) {
      const message = await chat.bindTools([weather]).invoke(messages);
      messages.push(message);
      if (!message.tool_calls?.length) return message.text;
      for (const { id = "", args } of message.tool_calls)
        messages.push(new ToolMessage({ content: await execute(schema.parse(args)), tool_call_id: id }));
    }
  },
};

test.each(Object.entries(loopsWithoutThinking))(
  "a DeepSeek tool loop in %s, which drops the thinking, continues with empty thinking",
  async (_name, runLoop) => {
    scriptToolLoop("compatible/three", "plain");
    expect(await runLoop("compatible/three")).toBe("It's raining.");
    // Each request with tool calls is rejected once, and no other model is called.
    expect(parley.provider.thinkingErrors).toHaveLength(2);
    expect(parley.provider.requests.map(({ model }) => model)).toEqual(Array(5).fill("three"));
  },
);
