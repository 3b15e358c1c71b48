import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { models, type SdkParley, startSdkParley } from "./start-parley.ts";

let parley: SdkParley;

beforeAll(async () => {
  parley = await startSdkParley();
});
afterAll(() => parley.stop());

/** The two AI SDK providers that support Chat Completions. */
const providers = {
  "@ai-sdk/openai-compatible": (id: string) =>
    createOpenAICompatible({ name: "parley", apiKey: parley.apiKey, baseURL: parley.baseURL, includeUsage: true })(id),
  "@ai-sdk/openai": (id: string) => createOpenAI({ apiKey: parley.apiKey, baseURL: parley.baseURL }).chat(id),
};
const cases = Object.entries(providers).flatMap(([name, create]) => models.map((id) => ({ name, id, create })));
const prompt = "How is the weather in Paris?";

describe("ai", () => {
  test.each(cases)("$name returns and streams an answer from $id", async ({ id, create }) => {
    parley.script(id, { text: "It rains." });
    const result = await generateText({ model: create(id), prompt });
    expect(result.text).toBe("It rains.");
    expect(result.usage.outputTokens).toBeGreaterThan(0);
    const stream = streamText({ model: create(id), prompt });
    let text = "";
    for await (const delta of stream.textStream) text += delta;
    expect(text).toBe("It rains.");
    expect(await stream.finishReason).toBe("stop");
    expect((await stream.usage).outputTokens).toBeGreaterThan(0);
  });

  test.each(cases)("$name runs a tool loop with $id", async ({ id, create }) => {
    parley.script(id, { toolCalls: [{ name: "get_weather", arguments: '{"city":"Paris"}' }] }, { text: "It rains." });
    const cities: string[] = [];
    const { text, steps } = await generateText({
      model: create(id),
      prompt,
      stopWhen: stepCountIs(3),
      tools: {
        get_weather: tool({
          description: "Returns the weather in a city.",
          inputSchema: z.object({ city: z.string() }),
          execute: async ({ city }) => {
            cities.push(city);
            return "rain";
          },
        }),
      },
    });
    expect([text, steps.length, cities]).toEqual(["It rains.", 2, ["Paris"]]);
  });

  test.each(Object.entries(providers))("%s reports the status and message of an error", async (_name, create) => {
    const failed = generateText({ model: create("openai/none"), prompt, maxRetries: 0 });
    const error = await failed.then(() => null).catch((thrown: unknown) => thrown);
    expect(APICallError.isInstance(error) && [error.statusCode, error.isRetryable]).toEqual([404, false]);
    expect((error as Error).message).toContain("openai/none");
  });
});
