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
const cases = Object.entries(providers).flatMap(([name, createModel]) =>
  models.map((id) => ({ name, id, createModel })),
);
const prompt = "What's the weather like in Paris?";

describe("ai", () => {
  test.each(cases)("$name returns and streams an answer from $id", async ({ id, createModel }) => {
    parley.script(id, { text: "It's raining." });
    const result = await generateText({ model: createModel(id), prompt });
    expect(result.text).toBe("It's raining.");
    expect(result.usage.outputTokens).toBeGreaterThan(0);
    const stream = streamText({ model: createModel(id), prompt });
    let text = "";
    for await (const delta of stream.textStream) text += delta;
    expect(text).toBe("It's raining.");
    expect(await stream.finishReason).toBe("stop");
    expect((await stream.usage).outputTokens).toBeGreaterThan(0);
  });

  test.each(cases)("$name runs a tool loop with $id", async ({ id, createModel }) => {
    parley.script(
      id,
      { toolCalls: [{ name: "get_weather", arguments: '{"city":"Paris"}' }] },
      { text: "It's raining." },
    );
    const cities: string[] = [];
    const { text, steps } = await generateText({
      model: createModel(id),
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
    expect([text, steps.length, cities]).toEqual(["It's raining.", 2, ["Paris"]]);
  });

  test.each(Object.entries(providers))("%s reports the status and message of an error", async (_name, createModel) => {
    const failedRequest = generateText({ model: createModel("openai/none"), prompt, maxRetries: 0 });
    const error = await failedRequest.then(() => null).catch((thrown: unknown) => thrown);
    expect(APICallError.isInstance(error) && [error.statusCode, error.isRetryable]).toEqual([404, false]);
    expect((error as Error).message).toContain("openai/none");
  });
});
