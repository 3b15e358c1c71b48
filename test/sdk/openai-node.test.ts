import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import OpenAI, { BadRequestError, InternalServerError, NotFoundError, RateLimitError } from "openai";
import { models, type SdkParley, startSdkParley } from "./start-parley.ts";

let parley: SdkParley;
let client: OpenAI;

beforeAll(async () => {
  parley = await startSdkParley();
  client = new OpenAI({ apiKey: parley.apiKey, baseURL: parley.baseURL });
});
afterAll(() => parley.stop());

const question = [{ role: "user" as const, content: "What's the weather like in Paris?" }];
const weatherTool = {
  type: "function" as const,
  function: {
    name: "get_weather",
    description: "Returns the weather in a city.",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
const weatherCall = { toolCalls: [{ name: "get_weather", arguments: '{"city":"Paris"}' }] };

async function catchError(work: PromiseLike<unknown>): Promise<unknown> {
  try {
    await work;
  } catch (error) {
    return error;
  }
  throw new Error("The request succeeded.");
}

describe("openai (node)", () => {
  test.each(models)("returns and streams an answer from %s", async (model) => {
    parley.script(model, { text: "It's raining." });
    const completion = await client.chat.completions.create({ model, messages: question });
    expect(completion.choices[0]?.message.content).toBe("It's raining.");
    const stream = client.chat.completions.stream({
      model,
      messages: question,
      stream_options: { include_usage: true },
    });
    let text = "";
    stream.on("content", (delta) => {
      text += delta;
    });
    expect((await stream.finalChatCompletion()).choices[0]?.message.content).toBe("It's raining.");
    expect(text).toBe("It's raining.");
    expect((await stream.totalUsage()).completion_tokens).toBeGreaterThan(0);
  });

  test.each(models)("runs a tool loop with %s", async (model) => {
    parley.script(model, weatherCall, { text: "It's raining in Paris." });
    const cities: string[] = [];
    const runner = client.chat.completions.runTools({
      model,
      messages: question,
      tools: [
        {
          type: "function",
          function: {
            ...weatherTool.function,
            parse: JSON.parse,
            function: ({ city }: { city: string }) => {
              cities.push(city);
              return "rain";
            },
          },
        },
      ],
    });
    expect(await runner.finalContent()).toBe("It's raining in Paris.");
    expect(cities).toEqual(["Paris"]);
  });

  test("throws a BadRequestError with parameter and code for an invalid request", async () => {
    const error = await catchError(client.chat.completions.create({ model: "openai/one", messages: question, n: 2 }));
    expect(error).toBeInstanceOf(BadRequestError);
    expect(error).toMatchObject({ status: 400, param: "n", type: "invalid_request_error" });
    const unknownModelError = await catchError(
      client.chat.completions.create({ model: "openai/none", messages: question }),
    );
    expect(unknownModelError).toBeInstanceOf(NotFoundError);
    expect(unknownModelError).toMatchObject({ param: "model", code: "model_not_found" });
  });

  test("throws a RateLimitError for rate-limited models, and an InternalServerError for unavailable ones", async () => {
    const clientWithoutRetries = client.withOptions({ maxRetries: 0 });
    for (const model of models) parley.script(model, { fault: "status", status: 429, retryAfter: "3600" });
    const rateLimitError = await catchError(
      clientWithoutRetries.chat.completions.create({ model: "openai/one", messages: question }),
    );
    expect(rateLimitError).toBeInstanceOf(RateLimitError);
    expect(rateLimitError).toMatchObject({ status: 429, code: "provider_rate_limited" });
    for (const model of models) parley.script(model, { fault: "status", status: 500 });
    const serverError = await catchError(
      clientWithoutRetries.chat.completions.create({ model: "openai/one", messages: question }),
    );
    expect(serverError).toBeInstanceOf(InternalServerError);
  });
});
