import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, type LanguageModel, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import type { Thought } from "../support/provider-stand-in/thoughts.ts";
import { type SdkParley, startSdkParley } from "./start-parley.ts";

let parley: SdkParley;
beforeAll(async () => {
  parley = await startSdkParley();
});
beforeEach(() => parley.provider.reset());
afterAll(() => parley.stop());

const kinds: [string, Thought][] = [
  ["anthropic/two", "signed"],
  ["openai/one", "encrypted"],
  ["compatible/three", "plain"],
  ["compatible/three", "signature"],
  ["compatible/three", "details"],
];
const call = { name: "get_weather", arguments: '{"city":"Paris"}' };
const prompt = "How is the weather in Paris?";
const tools = {
  get_weather: tool({
    description: "Tells the weather of a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: async () => "rain",
  }),
};

function scriptLoop(id: string, thought: Thought): void {
  parley.script(
    id,
    { toolCalls: [call, call], thought },
    { toolCalls: [call], thought },
    { text: "It rains.", thought },
  );
}

describe("@ai-sdk/openai-compatible hands back what a model has thought, in the signature of its calls", () => {
  const model = (id: string): LanguageModel =>
    createOpenAICompatible({ name: "parley", apiKey: parley.apiKey, baseURL: parley.baseURL })(id);

  test.each(kinds)("%s, %s: whole, and in chunks", async (id, thought) => {
    scriptLoop(id, thought);
    const { text } = await generateText({ model: model(id), prompt, stopWhen: stepCountIs(4), tools });
    expect([text, parley.provider.refusals]).toEqual(["It rains.", []]);
    scriptLoop(id, thought);
    const stream = streamText({ model: model(id), prompt, stopWhen: stepCountIs(4), tools });
    expect([await stream.text, parley.provider.refusals]).toEqual(["It rains.", []]);
    expect(parley.provider.requests).toHaveLength(6);
  });
});

test("@ai-sdk/openai hands nothing back: DeepSeek's loop goes on all the same, with an empty thought", async () => {
  scriptLoop("compatible/three", "plain");
  const model = createOpenAI({ apiKey: parley.apiKey, baseURL: parley.baseURL }).chat("compatible/three");
  const { text } = await generateText({ model, prompt, stopWhen: stepCountIs(4), tools });
  expect(text).toBe("It rains.");
  // Each request is refused once.
  expect(parley.provider.refusals).toHaveLength(2);
});
