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

const hello = [{ role: "user" as const, content: "How is the weather in Paris?" }];
const weather = {
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
    parley.script(model, { text: "It rains." });
    const completion = await client.chat.completions.create({ model, messages: hello });
    expect(completion.choices[0]?.message.content).toBe("It rains.");
    const stream = client.chat.completions.stream({ model, messages: hello, stream_options: { include_usage: true } });
    let text = "";
    stream.on("content", (delta) => {
      text += delta;
    });
    expect((await stream.finalChatCompletion()).choices[0]?.message.content).toBe("It rains.");
    expect(text).toBe("It rains.");
    expect((await stream.totalUsage()).completion_tokens).toBeGreaterThan(0);
  });

  test.each(models)("runs a tool loop with %s", async (model) => {
    parley.script(model, weatherCall, { text: "It rains in Paris." });
    const cities: string[] = [];
    const runner = client.chat.completions.runTools({
      model,
      messages: hello,
      tools: [
        {
          type: "function",
          function: {
            ...weather.function,
            parse: JSON.parse,
            function: ({ city }: { city: string }) => {
              cities.push(city);
              return "rain";
            },
          },
        },
      ],
    });
    expect(await runner.finalContent()).toBe("It rains in Paris.");
    expect(cities).toEqual(["Paris"]);
  });

  test("throws a BadRequestError with parameter and code for an invalid request", async () => {
    const error = await catchError(client.chat.completions.create({ model: "openai/one", messages: hello, n: 2 }));
    expect(error).toBeInstanceOf(BadRequestError);
    expect(error).toMatchObject({ status: 400, param: "n", type: "invalid_request_error" });
    const unknown = await catchError(client.chat.completions.create({ model: "openai/none", messages: hello }));
    expect(unknown).toBeInstanceOf(NotFoundError);
    expect(unknown).toMatchObject({ param: "model", code: "model_not_found" });
  });

  test("throws a RateLimitError for rate-limited models, and an InternalServerError for unavailable ones", async () => {
    const withoutRetries = client.withOptions({ maxRetries: 0 });
    for (const model of models) parley.script(model, { fault: "status", status: 429, retryAfter: "3600" });
    const rateLimitError = await catchError(
      withoutRetries.chat.completions.create({ model: "openai/one", messages: hello }),
    );
    expect(rateLimitError).toBeInstanceOf(RateLimitError);
    expect(rateLimitError).toMatchObject({ status: 429, code: "provider_rate_limited" });
    for (const model of models) parley.script(model, { fault: "status", status: 500 });
    const serverError = await catchError(
      withoutRetries.chat.completions.create({ model: "openai/one", messages: hello }),
    );
    expect(serverError).toBeInstanceOf(InternalServerError);
  });
});
