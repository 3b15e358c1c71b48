import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { ChatOpenAI } from "@langchain/openai";
import { generateObject, generateText, Output, streamObject } from "ai";
import OpenAI, { APIError } from "openai";
import { LengthFinishReasonError } from "openai/error";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { models, type SdkParley, startSdkParley } from "./start-parley.ts";

let parley: SdkParley;
let client: OpenAI;

beforeAll(async () => {
  parley = await startSdkParley();
  client = new OpenAI({ apiKey: parley.apiKey, baseURL: parley.baseURL, maxRetries: 0 });
});
afterAll(() => parley.stop());

const Person = z.object({
  name: z.string(),
  age: z.number().int().min(0),
  emails: z.array(z.email()).max(3),
  nickname: z.string().nullable(),
});
const person = { name: "Anna", age: 41, emails: ["anna@example.com"], nickname: null };
const text = JSON.stringify(person);
const messages = [{ role: "user" as const, content: "Who is it? Answer as JSON." }];
const prompt = messages[0]?.content ?? "";

describe("openai (node)", () => {
  const createRequest = (model: string) => ({ model, messages, response_format: zodResponseFormat(Person, "person") });

  test.each(models)("parses the output of %s", async (model) => {
    parley.script(model, { text });
    const { choices } = await client.chat.completions.parse(createRequest(model));
    expect(choices[0]?.message.parsed).toEqual(person);
  });

  test.each(models)("parses the output of %s after Parley requested a correction", async (model) => {
    parley.script(model, { text: '{"name":"Anna"}' }, { text });
    const { choices, usage } = await client.chat.completions.parse(createRequest(model));
    expect(choices[0]?.message.parsed).toEqual(person);
    // The usage covers both the first text and the correction.
    expect(usage?.completion_tokens).toBe(2);
  });

  test.each(models)("parses a stream from %s", async (model) => {
    parley.script(model, { pieces: [...text] });
    const stream = client.chat.completions.stream(createRequest(model));
    let deltaCount = 0;
    stream.on("content.delta", () => {
      deltaCount += 1;
    });
    const { choices } = await stream.finalChatCompletion();
    expect(choices[0]?.message.parsed).toEqual(person);
    expect(deltaCount).toBeGreaterThan(10);
  });

  test("throws its own error for truncated text", async () => {
    parley.script("openai/one", { text: '{"name":"An', finishReason: "length" });
    const failedRequest = client.chat.completions.parse(createRequest("openai/one"));
    expect(await failedRequest.catch((error: unknown) => error)).toBeInstanceOf(LengthFinishReasonError);
  });

  test("throws an APIError if the corrected text doesn't match either, or if a stream's text doesn't match", async () => {
    parley.script("openai/one", { text: '{"name":5}' });
    const error = await client.chat.completions.parse(createRequest("openai/one")).catch((error: unknown) => error);
    expect(error instanceof APIError && [error.status, error.code]).toEqual([502, "invalid_output"]);
    const stream = client.chat.completions.stream(createRequest("openai/one"));
    const streamError = await stream.finalChatCompletion().catch((error: unknown) => error);
    expect(streamError).toBeInstanceOf(APIError);
    expect((streamError as APIError).code).toBe("invalid_output");
  });
});

const providers = {
  "@ai-sdk/openai-compatible": (id: string) =>
    createOpenAICompatible({
      name: "parley",
      apiKey: parley.apiKey,
      baseURL: parley.baseURL,
      supportsStructuredOutputs: true,
    })(id),
  "@ai-sdk/openai-compatible without schemas": (id: string) =>
    createOpenAICompatible({ name: "parley", apiKey: parley.apiKey, baseURL: parley.baseURL })(id),
  "@ai-sdk/openai": (id: string) => createOpenAI({ apiKey: parley.apiKey, baseURL: parley.baseURL }).chat(id),
};
const cases = Object.entries(providers).flatMap(([name, createModel]) =>
  models.map((id) => ({ name, id, createModel })),
);

describe("ai", () => {
  test.each(cases)(
    "$name with $id returns an object, streams an object, and returns an object together with text",
    async ({ id, createModel }) => {
      parley.script(id, { text });
      expect((await generateObject({ model: createModel(id), schema: Person, prompt })).object).toEqual(person);
      const stream = streamObject({ model: createModel(id), schema: Person, prompt });
      let lastPartial: unknown;
      for await (const partial of stream.partialObjectStream) lastPartial = partial;
      expect(lastPartial).toEqual(person);
      expect(await stream.object).toEqual(person);
      const { output } = await generateText({
        model: createModel(id),
        output: Output.object({ schema: Person }),
        prompt,
      });
      expect(output).toEqual(person);
    },
  );
});

describe("@langchain/openai", () => {
  const createChat = (model: string) =>
    new ChatOpenAI({ model, apiKey: parley.apiKey, configuration: { baseURL: parley.baseURL }, maxRetries: 0 });

  test.each(models.flatMap((model) => (["jsonSchema", "jsonMode"] as const).map((method) => ({ model, method }))))(
    "returns an object from $model with the method $method",
    async ({ model, method }) => {
      parley.script(model, { text });
      expect(await createChat(model).withStructuredOutput(Person, { name: "person", method }).invoke(prompt)).toEqual(
        person,
      );
    },
  );

  test.each(models)("returns an object from %s with the method functionCalling", async (model) => {
    parley.script(model, { toolCalls: [{ name: "person", arguments: text }] });
    const structuredChat = createChat(model).withStructuredOutput(Person, {
      name: "person",
      method: "functionCalling",
    });
    expect(await structuredChat.invoke(prompt)).toEqual(person);
  });
});
