import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { ChatOpenAI } from "@langchain/openai";
import { generateText } from "ai";
import { type SdkParley, startSdkParley } from "./start-parley.ts";

let parley: SdkParley;

beforeAll(async () => {
  parley = await startSdkParley();
});
beforeEach(() => parley.provider.reset());
afterAll(() => parley.stop());

const prompt = "What's the weather like in Paris?";
const settings = {
  maxOutputTokens: 50,
  temperature: 0.5,
  topP: 0.9,
  frequencyPenalty: 0.1,
  presencePenalty: 0.2,
  seed: 7,
  stopSequences: ["END"],
};
const expectedBody = {
  max_tokens: 50,
  temperature: 0.5,
  top_p: 0.9,
  frequency_penalty: 0.1,
  presence_penalty: 0.2,
  seed: 7,
  stop: ["END"],
};

test("every setting of @ai-sdk/openai-compatible reaches a compatible server", async () => {
  const createModel = createOpenAICompatible({ name: "parley", apiKey: parley.apiKey, baseURL: parley.baseURL });
  const providerOptions = { parley: { user: "u1", textVerbosity: "low", min_p: 0.1 } };
  await generateText({ model: createModel("compatible/three"), prompt, ...settings, providerOptions });
  expect(parley.provider.requests.at(-1)?.body).toMatchObject({
    ...expectedBody,
    user: "u1",
    verbosity: "low",
    min_p: 0.1,
  });
});

test("every setting of @ai-sdk/openai's chat reaches a compatible server", async () => {
  const { chat } = createOpenAI({ apiKey: parley.apiKey, baseURL: parley.baseURL });
  const openai = {
    user: "u1",
    logitBias: { 50256: -100 },
    parallelToolCalls: true,
    promptCacheKey: "k1",
    metadata: { a: "b" },
  };
  await generateText({ model: chat("compatible/three"), prompt, ...settings, providerOptions: { openai } });
  expect(parley.provider.requests.at(-1)?.body).toMatchObject({
    ...expectedBody,
    user: "u1",
    logit_bias: { "50256": -100 },
    prompt_cache_key: "k1",
  });
});

test("every setting of LangChain's ChatOpenAI reaches a compatible server", async () => {
  const { maxOutputTokens: maxTokens, stopSequences: stop, seed, ...otherSettings } = settings;
  const model = new ChatOpenAI({
    model: "compatible/three",
    apiKey: parley.apiKey,
    configuration: { baseURL: parley.baseURL },
    ...otherSettings,
    maxTokens,
    user: "u1",
    logitBias: { 50256: -100 },
    modelKwargs: { top_k: 40 },
  });
  await model.invoke(prompt, { stop, seed });
  expect(parley.provider.requests.at(-1)?.body).toMatchObject({
    ...expectedBody,
    user: "u1",
    logit_bias: { "50256": -100 },
    top_k: 40,
  });
});
