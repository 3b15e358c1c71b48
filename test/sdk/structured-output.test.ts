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
  const ask = (model: string) => ({ model, messages, response_format: zodResponseFormat(Person, "person") });

  test.each(models)("%s: parse", async (model) => {
    parley.script(model, { text });
    const { choices } = await client.chat.completions.parse(ask(model));
    expect(choices[0]?.message.parsed).toEqual(person);
  });

  test.each(models)("%s: parse, after Parley had a text corrected", async (model) => {
    parley.script(model, { text: '{"name":"Anna"}' }, { text });
    const { choices, usage } = await client.chat.completions.parse(ask(model));
    expect(choices[0]?.message.parsed).toEqual(person);
    // The usage of both texts.
    expect(usage?.completion_tokens).toBe(2);
  });

  test.each(models)("%s: a stream", async (model) => {
    parley.script(model, { pieces: [...text] });
    const stream = client.chat.completions.stream(ask(model));
    let deltas = 0;
    stream.on("content.delta", () => {
      deltas += 1;
    });
    const { choices } = await stream.finalChatCompletion();
    expect(choices[0]?.message.parsed).toEqual(person);
    expect(deltas).toBeGreaterThan(10);
  });

  test("a truncated text is the SDK's own error", async () => {
    parley.script("openai/one", { text: '{"name":"An', finish: "length" });
    const failed = client.chat.completions.parse(ask("openai/one"));
    expect(await failed.catch((error: unknown) => error)).toBeInstanceOf(LengthFinishReasonError);
  });

  test("a text that doesn't match twice is an error; when streamed, at the end of the stream", async () => {
    parley.script("openai/one", { text: '{"name":5}' });
    const failed = await client.chat.completions.parse(ask("openai/one")).catch((error: unknown) => error);
    expect(failed instanceof APIError && [failed.status, failed.code]).toEqual([502, "invalid_output"]);
    const stream = client.chat.completions.stream(ask("openai/one"));
    const broken = await stream.finalChatCompletion().catch((error: unknown) => error);
    expect(broken).toBeInstanceOf(APIError);
    expect((broken as APIError).code).toBe("invalid_output");
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
const cases = Object.entries(providers).flatMap(([name, create]) => models.map((id) => ({ name, id, create })));

describe("ai", () => {
  test.each(cases)(
    "$name, $id: an object, complete and streamed, and in addition to a text",
    async ({ id, create }) => {
      parley.script(id, { text });
      expect((await generateObject({ model: create(id), schema: Person, prompt })).object).toEqual(person);
      const stream = streamObject({ model: create(id), schema: Person, prompt });
      let last: unknown;
      for await (const partial of stream.partialObjectStream) last = partial;
      expect(last).toEqual(person);
      expect(await stream.object).toEqual(person);
      const { output } = await generateText({ model: create(id), output: Output.object({ schema: Person }), prompt });
      expect(output).toEqual(person);
    },
  );
});

describe("@langchain/openai", () => {
  const create = (model: string) =>
    new ChatOpenAI({ model, apiKey: parley.apiKey, configuration: { baseURL: parley.baseURL }, maxRetries: 0 });

  test.each(models.flatMap((model) => (["jsonSchema", "jsonMode"] as const).map((method) => ({ model, method }))))(
    "$model, $method",
    async ({ model, method }) => {
      parley.script(model, { text });
      expect(await create(model).withStructuredOutput(Person, { name: "person", method }).invoke(prompt)).toEqual(
        person,
      );
    },
  );

  test.each(models)("%s, functionCalling", async (model) => {
    parley.script(model, { toolCalls: [{ name: "person", arguments: text }] });
    const structured = create(model).withStructuredOutput(Person, { name: "person", method: "functionCalling" });
    expect(await structured.invoke(prompt)).toEqual(person);
  });
});
