import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { z } from "zod";
import { models, type SdkParley, startSdkParley } from "./start-parley.ts";

let parley: SdkParley;

beforeAll(async () => {
  parley = await startSdkParley();
});
afterAll(() => parley.stop());

const createChat = (model: string) =>
  new ChatOpenAI({ model, apiKey: parley.apiKey, configuration: { baseURL: parley.baseURL }, maxRetries: 0 });
const prompt = "What's the weather like in Paris?";
const weatherTool = tool(async ({ city }) => `rain in ${city}`, {
  name: "get_weather",
  description: "Returns the weather in a city.",
  schema: z.object({ city: z.string() }),
});

describe("@langchain/openai", () => {
  test.each(models)("returns and streams an answer from %s", async (model) => {
    parley.script(model, { text: "It's raining." });
    const answer = await createChat(model).invoke(prompt);
    expect(answer.text).toBe("It's raining.");
    expect(answer.usage_metadata?.output_tokens).toBeGreaterThan(0);
    let text = "";
    for await (const chunk of await createChat(model).stream(prompt)) text += chunk.text;
    expect(text).toBe("It's raining.");
  });

  test.each(models)("runs a tool loop with %s", async (model) => {
    parley.script(
      model,
      { toolCalls: [{ name: "get_weather", arguments: '{"city":"Paris"}' }] },
      { text: "It's raining." },
    );
    const chatWithTools = createChat(model).bindTools([weatherTool]);
    const question = new HumanMessage(prompt);
    const firstMessage = await chatWithTools.invoke([question]);
    const [call] = firstMessage.tool_calls ?? [];
    expect(call).toMatchObject({ name: "get_weather", args: { city: "Paris" } });
    const result = await weatherTool.invoke({ city: "Paris" });
    const secondMessage = await chatWithTools.invoke([
      question,
      firstMessage,
      new ToolMessage({ content: result, tool_call_id: call?.id ?? "", name: "get_weather" }),
    ]);
    expect(secondMessage.text).toBe("It's raining.");
    expect(JSON.stringify(parley.provider.requests.at(-1)?.body)).toContain("rain in Paris");
  });

  test("reports the status, code and parameter of an error", async () => {
    const error = await createChat("openai/none")
      .invoke(prompt)
      .then(() => null)
      .catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ status: 404, code: "model_not_found", param: "model" });
  });
});
