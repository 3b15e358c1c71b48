import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import OpenAI from "openai";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createRestClient } from "../support/rest.ts";

let provider: MockProvider;
let parley: TestApp;
let anna: Account;
let client: OpenAI;

const createConfig = (overrides: Record<string, string> = {}) => ({
  OPENAI_API_KEY: "sk-test",
  OPENAI_BASE_URL: provider.openaiUrl,
  ANTHROPIC_API_KEY: "sk-ant-test",
  ANTHROPIC_BASE_URL: provider.anthropicUrl,
  COMPATIBLE_BASE_URL: provider.openaiUrl,
  AI_MODELS: "openai/one,anthropic/two,compatible/three,compatible/fails,compatible/cut",
  AI_MAX_RETRIES: "0",
  ...overrides,
});
const createClient = (app: TestApp, account: Account) =>
  new OpenAI({ apiKey: account.access_token, baseURL: `${app.url}/v1`, maxRetries: 0 });

beforeAll(async () => {
  provider = startMockProvider();
  parley = await startApp({ config: createConfig() });
  anna = await parley.register();
  client = createClient(parley, anna);
});
beforeEach(() => provider.reset());
afterAll(async () => {
  await parley.stop();
  await provider.stop();
});

const messages = [{ role: "user" as const, content: "Think." }];
type Delta = { content?: string; reasoning_content?: string };

/** Reads a stream with OpenAI's client, and returns its text, its reasoning and the last model name. */
async function readStream(model: string, fields: object = {}, openai = client) {
  const deltas: [field: string, text: string][] = [];
  let lastModel = "";
  const request = { model, messages, stream: true as const, stream_options: { include_usage: true }, ...fields };
  let usage: OpenAI.CompletionUsage | null | undefined;
  for await (const chunk of await openai.chat.completions.create(request)) {
    const delta = (chunk.choices[0]?.delta ?? {}) as Delta;
    for (const field of ["reasoning_content", "content"] as const) if (delta[field]) deltas.push([field, delta[field]]);
    lastModel = chunk.model;
    usage = chunk.usage ?? usage;
  }
  const joinDeltas = (field: string) => deltas.flatMap(([name, text]) => (name === field ? [text] : [])).join("");
  return {
    deltas,
    reasoning: joinDeltas("reasoning_content"),
    content: joinDeltas("content"),
    model: lastModel,
    usage,
  };
}

describe.each(["openai/one", "anthropic/two", "compatible/three"])("%s on /v1", (model) => {
  const name = model.split("/")[1] ?? "";

  test("streams its reasoning as `reasoning_content` before its text", async () => {
    provider.script(name, {
      thinking: ["First, ", "a plan."],
      pieces: ["The ", "answer."],
      pieceDelayMs: 10,
      reportUsage: false,
    });
    const { deltas, usage } = await readStream(model);
    expect(deltas).toEqual([
      ["reasoning_content", "First, "],
      ["reasoning_content", "a plan."],
      ["content", "The "],
      ["content", "answer."],
    ]);
    const reasoningTokens = usage?.completion_tokens_details?.reasoning_tokens ?? 0;
    expect(reasoningTokens).toBeGreaterThan(0);
    expect(usage?.completion_tokens).toBeGreaterThan(reasoningTokens);
  });

  test("includes its reasoning in the message of a non-streamed answer", async () => {
    provider.script(name, { thinking: ["First, ", "a plan."], pieces: ["The answer."] });
    const { choices } = await client.chat.completions.create({ model, messages });
    expect(choices[0]?.message).toMatchObject({ content: "The answer.", reasoning_content: "First, a plan." });
    provider.script(name, { pieces: ["No reasoning."] });
    const withoutReasoning = await client.chat.completions.create({ model, messages });
    expect(withoutReasoning.choices[0]?.message).not.toHaveProperty("reasoning_content");
  });
});

describe("a failover on /v1", () => {
  test("during thinking keeps the streamed reasoning, and continues with the next model's reasoning and name", async () => {
    provider.script("fails", {
      thinking: ["A wrong idea."],
      pieces: [],
      pieceDelayMs: 10,
      fault: "cut",
      piecesBeforeFault: 0,
    });
    provider.script("three", { thinking: ["A better one."], pieces: ["Done."] });
    const backup = await startApp({ config: createConfig({ AI_MODELS: "compatible/fails,compatible/three" }) });
    try {
      const account = await backup.register();
      const streamed = await readStream("compatible/fails", {}, createClient(backup, account));
      expect(streamed.reasoning).toBe("A wrong idea.\n\nA better one.");
      expect(streamed.content).toBe("Done.");
      expect(streamed.model).toBe("compatible/three");
      // Without a stream, only the answering model's reasoning is returned.
      const completion = await createClient(backup, account).chat.completions.create({
        model: "compatible/fails",
        messages,
      });
      expect(completion.choices[0]?.message).toMatchObject({ content: "Done.", reasoning_content: "A better one." });
      expect(completion.model).toBe("compatible/three");
    } finally {
      await backup.stop();
    }
  });

  test("during the answer keeps the thinking that led to the text", async () => {
    provider.script("cut", {
      thinking: ["Count."],
      pieces: ["One ", "two "],
      pieceDelayMs: 20,
      fault: "cut",
      piecesBeforeFault: 2,
    });
    provider.script("one", { thinking: ["Go on."], pieces: ["three."] });
    const { reasoning, content } = await readStream("compatible/cut");
    expect(content).toBe("One two three.");
    expect(reasoning).toBe("Count.\n\nGo on.");
  });

  test("during thinking ends with an error if every model fails", async () => {
    for (const name of ["one", "two", "three", "fails", "cut"])
      provider.script(name, { thinking: ["Hm."], pieces: [], pieceDelayMs: 10, fault: "cut", piecesBeforeFault: 0 });
    await expect(readStream("compatible/fails")).rejects.toThrow();
  });
});

test("a stored answer includes its reasoning, and outsiders can't read it", async () => {
  const outsider = await parley.register();
  const { id } = await createConversation(parley, anna, [], { reply_mode: "never" });
  provider.script("three", { thinking: ["First, ", "a plan."], pieces: ["The answer."] });
  await readStream("compatible/three", { metadata: { conversation_id: id } });
  const path = `/conversations/${id}/messages`;
  type List = { data: { content: string; reasoning: string | null }[] };
  const { data } = (await createRestClient(parley, anna).get<List>(path)).body;
  expect(data.map(({ content, reasoning }) => [content, reasoning])).toEqual([
    ["Think.", null],
    ["The answer.", "First, a plan."],
  ]);
  expect((await createRestClient(parley, outsider).get(path)).status).toBe(404);
});

test.each([
  ["stream", "First, a plan."],
  ["off", ""],
])("with AI_REASONING=%s, no reasoning is stored", async (AI_REASONING, streamedReasoning) => {
  const app = await startApp({ config: createConfig({ AI_REASONING }) });
  try {
    const account = await app.register();
    const { id } = await createConversation(app, account, [], { reply_mode: "never" });
    provider.script("three", { thinking: ["First, ", "a plan."], pieces: ["The answer."] });
    const metadata = { conversation_id: id };
    const { reasoning, content } = await readStream("compatible/three", { metadata }, createClient(app, account));
    expect([reasoning, content]).toEqual([streamedReasoning, "The answer."]);
    expect(await app.database`select 1 from messages where content = 'The answer.'`).toHaveLength(1);
    // The client also receives encrypted thinking to send back, whether or not readable reasoning is streamed.
    const tool = { type: "function" as const, function: { name: "f", parameters: { type: "object" } } };
    const toolCalls = [{ name: "f", arguments: "{}" }];
    provider.script("two", { thinkingFormat: "signed", pieces: [], toolCalls });
    const { choices } = await createClient(app, account).chat.completions.create({
      model: "anthropic/two",
      messages,
      tools: [tool],
    });
    type Details = { reasoning_details?: { type: string; format: string }[] };
    const { reasoning_details: details } = (choices[0]?.message ?? {}) as Details;
    expect(details?.at(-1)).toMatchObject({ type: "reasoning.encrypted", format: "parley-v1" });
    expect(details?.some(({ type }) => type === "reasoning.text")).toBe(streamedReasoning !== "");
    expect(await app.database`select 1 from messages where reasoning is not null`).toHaveLength(0);
  } finally {
    await app.stop();
  }
});
