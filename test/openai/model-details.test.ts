import { afterAll, beforeAll, expect, test } from "bun:test";
import { createKey } from "../api-keys/create-key.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";

/** Nothing listens at this URL. The tests don't call a model. */
const UNREACHABLE_URL = "http://127.0.0.1:1/v1";

let parley: TestApp;
let anna: Account;

beforeAll(async () => {
  parley = await startApp({
    config: {
      OPENAI_API_KEY: "sk-test",
      OPENAI_BASE_URL: UNREACHABLE_URL,
      ANTHROPIC_API_KEY: "sk-ant-test",
      ANTHROPIC_BASE_URL: UNREACHABLE_URL,
      COMPATIBLE_BASE_URL: UNREACHABLE_URL,
      AI_MAX_RETRIES: "0",
      AI_MODELS: "openai/gpt-5.2,openai/gpt-4o,anthropic/claude-haiku-4-5,compatible/vendor/mystery:free",
      AI_PRICES: "openai/gpt-4o=2.5/10,anthropic/claude-haiku-4-5=1/5",
    },
  });
  anna = await parley.register();
});
afterAll(() => parley.stop());

type ListedModel = { id: string; supported_parameters: string[]; [field: string]: unknown };

async function getJson<T>(path: string): Promise<T> {
  const response = await parley.fetch(path, { token: anna.access_token });
  expect(response.status).toBe(200);
  return (await response.json()) as T;
}

test("/v1/models lists the capabilities of each model", async () => {
  const { data } = await getJson<{ data: ListedModel[] }>("/v1/models");
  const [thinker, writer, claude, mystery] = data;
  expect(thinker).toMatchObject({ context_length: 400_000, max_completion_tokens: 128_000 });
  expect(thinker?.supported_parameters).toContainValues(["tools", "reasoning_effort", "verbosity", "stop"]);
  expect(thinker?.supported_parameters).not.toContainAnyValues(["temperature", "top_p", "seed", "top_k"]);
  expect(writer).toMatchObject({
    architecture: { input_modalities: ["text"], output_modalities: ["text"] },
    pricing: { prompt: "0.0000025", completion: "0.00001" },
  });
  expect(writer?.supported_parameters).toContainValues(["temperature", "top_p", "tools"]);
  expect(writer?.supported_parameters).not.toContain("reasoning_effort");
  expect(claude).toMatchObject({ context_length: 200_000, max_completion_tokens: 64_000 });
  expect(claude?.supported_parameters).toContainValues(["top_k", "reasoning_effort"]);
  expect(claude?.supported_parameters).not.toContainAnyValues(["verbosity", "logit_bias"]);
  expect(mystery).toMatchObject({ context_length: null, max_completion_tokens: null, pricing: null });
  expect(mystery?.supported_parameters).toContainValues(["logit_bias", "min_p", "chat_template_kwargs"]);
});

test.each(["compatible/vendor/mystery:free", "compatible%2Fvendor%2Fmystery%3Afree"])(
  "/v1/models/%s returns one model",
  async (path) => {
    const { data } = await getJson<{ data: ListedModel[] }>("/v1/models");
    expect(await getJson<ListedModel>(`/v1/models/${path}`)).toEqual(data[3] as ListedModel);
  },
);

test("every listed parameter is accepted, and any other parameter is rejected", async () => {
  const { data } = await getJson<{ data: ListedModel[] }>("/v1/models");
  const { supported_parameters: supportedParameters = [] } = data[2] ?? {};
  const samples = { top_k: 5, min_p: 0.5, verbosity: "low", presence_penalty: 1, enable_thinking: true };
  for (const [field, value] of Object.entries(samples)) {
    const json = { model: data[2]?.id, messages: [{ role: "user", content: "Hello" }], [field]: value };
    const response = await parley.fetch("/v1/chat/completions", { token: anna.access_token, json });
    const { error } = (await response.json()) as { error?: { param: string | null } };
    expect([field, error?.param === field]).toEqual([field, !supportedParameters.includes(field)]);
  }
});

const formatAbilities = ["json_object", "json_schema"];

test("/api/v1/models has the same data in Parley's format", async () => {
  const { data } = await getJson<{ data: object[] }>("/api/v1/models");
  expect(data).toMatchObject([
    { context_tokens: 400_000, answer_tokens_max: 128_000, abilities: ["tools", "thinking", ...formatAbilities] },
    { context_tokens: 128_000, answer_tokens_max: 16_384, abilities: ["tools", ...formatAbilities] },
    { context_tokens: 200_000, answer_tokens_max: 64_000, abilities: ["tools", "thinking", ...formatAbilities] },
    { context_tokens: null, answer_tokens_max: null, abilities: ["tools", "thinking", ...formatAbilities] },
  ]);
});

test("an API key without the scope chat:completions can't list models", async () => {
  const { key } = await createKey(parley, anna, { scopes: ["messages:read"] });
  for (const path of ["/v1/models", "/v1/models/openai/gpt-4o"])
    expect((await parley.fetch(path, { token: key })).status).toBe(403);
  expect((await parley.fetch("/v1/models")).status).toBe(401);
});
