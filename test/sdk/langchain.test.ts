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

const create = (model: string) =>
  new ChatOpenAI({ model, apiKey: parley.apiKey, configuration: { baseURL: parley.baseURL }, maxRetries: 0 });
const prompt = "How is the weather in Paris?";
const weather = tool(async ({ city }) => `rain in ${city}`, {
  name: "get_weather",
  description: "Returns the weather in a city.",
  schema: z.object({ city: z.string() }),
});

describe("@langchain/openai", () => {
  test.each(models)("returns and streams an answer from %s", async (model) => {
    parley.script(model, { text: "It rains." });
    const answer = await create(model).invoke(prompt);
    expect(answer.text).toBe("It rains.");
    expect(answer.usage_metadata?.output_tokens).toBeGreaterThan(0);
    let text = "";
    for await (const chunk of await create(model).stream(prompt)) text += chunk.text;
    expect(text).toBe("It rains.");
  });

  test.each(models)("runs a tool loop with %s", async (model) => {
    parley.script(
      model,
      { toolCalls: [{ name: "get_weather", arguments: '{"city":"Paris"}' }] },
      { text: "It rains." },
    );
    const withTools = create(model).bindTools([weather]);
    const question = new HumanMessage(prompt);
    const first = await withTools.invoke([question]);
    const [call] = first.tool_calls ?? [];
    expect(call).toMatchObject({ name: "get_weather", args: { city: "Paris" } });
    const result = await weather.invoke({ city: "Paris" });
    const second = await withTools.invoke([
      question,
      first,
      new ToolMessage({ content: result, tool_call_id: call?.id ?? "", name: "get_weather" }),
    ]);
    expect(second.text).toBe("It rains.");
    expect(JSON.stringify(parley.provider.requests.at(-1)?.body)).toContain("rain in Paris");
  });

  test("reports the status, code and parameter of an error", async () => {
    const error = await create("openai/none")
      .invoke(prompt)
      .then(() => null)
      .catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ status: 404, code: "model_not_found", param: "model" });
  });
});
