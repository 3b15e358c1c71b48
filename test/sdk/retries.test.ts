import { afterAll, beforeAll, expect, test } from "bun:test";
import { createOpenAI } from "@ai-sdk/openai";
import { ChatOpenAI } from "@langchain/openai";
import { generateText } from "ai";
import OpenAI from "openai";
import { type SdkParley, startSdkParley } from "./start-parley.ts";

const RETRY_AFTER_MS = 1_000;
/** Timers can fire a little early. */
const TOLERANCE_MS = 5;

let parley: SdkParley;

beforeAll(async () => {
  // Each test uses a separate model, because a model is skipped for a while after it rejects a request.
  const names = [429, 503].flatMap((status) => ["node", "ai", "langchain"].map((sdk) => `openai/${sdk}-${status}`));
  parley = await startSdkParley({ AI_MODELS: names.join(",") });
});
afterAll(() => parley.stop());

type RecordedResponse = { status: number; retryAfter: string | null; atMs: number };

/** Creates a `fetch` for an SDK that records each response. */
function createRecordingFetch(): { responses: RecordedResponse[]; fetch: typeof globalThis.fetch } {
  const responses: RecordedResponse[] = [];
  const recordingFetch = async (...args: Parameters<typeof globalThis.fetch>) => {
    const response = await globalThis.fetch(...args);
    const { status, headers } = response;
    responses.push({ status, retryAfter: headers.get("retry-after"), atMs: performance.now() });
    return response;
  };
  return { responses, fetch: Object.assign(recordingFetch, { preconnect: globalThis.fetch.preconnect }) };
}

const prompt = "What's the weather like in Paris?";
const sdks = {
  node: async (model: string, fetch: typeof globalThis.fetch) => {
    const client = new OpenAI({ apiKey: parley.apiKey, baseURL: parley.baseURL, fetch });
    const messages = [{ role: "user" as const, content: prompt }];
    return (await client.chat.completions.create({ model, messages })).choices[0]?.message.content;
  },
  ai: async (model: string, fetch: typeof globalThis.fetch) => {
    const { chat } = createOpenAI({ apiKey: parley.apiKey, baseURL: parley.baseURL, fetch });
    return (await generateText({ model: chat(model), prompt })).text;
  },
  langchain: async (model: string, fetch: typeof globalThis.fetch) => {
    const configuration = { baseURL: parley.baseURL, fetch };
    return (await new ChatOpenAI({ model, apiKey: parley.apiKey, configuration }).invoke(prompt)).text;
  },
};
const cases = [429, 503].flatMap((status) =>
  Object.entries(sdks).map(([sdk, requestCompletion]) => ({ status, sdk, requestCompletion })),
);

test.each(cases)("$sdk retries after a $status", async ({ status, sdk, requestCompletion }) => {
  const model = `openai/${sdk}-${status}`;
  // All other models fail, so that none of them answers instead.
  for (const otherModel of ["node", "ai", "langchain"].flatMap((name) => [`openai/${name}-429`, `openai/${name}-503`]))
    parley.script(otherModel, { fault: "status", status, retryAfter: "1" });
  parley.script(model, { fault: "status", status, retryAfter: "1", faultCount: 1 }, { text: "It's raining." });
  const { responses, fetch } = createRecordingFetch();
  expect(await requestCompletion(model, fetch)).toBe("It's raining.");
  const [firstResponse, secondResponse] = responses;
  expect([firstResponse?.status, firstResponse?.retryAfter, secondResponse?.status]).toEqual([status, "1", 200]);
  // LangChain has its own backoff, which ignores Retry-After.
  if (sdk !== "langchain")
    expect((secondResponse?.atMs ?? 0) - (firstResponse?.atMs ?? 0)).toBeGreaterThanOrEqual(
      RETRY_AFTER_MS - TOLERANCE_MS,
    );
});
