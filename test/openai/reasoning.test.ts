import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import OpenAI from "openai";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createRest } from "../support/rest.ts";

let provider: MockProvider;
let parley: TestApp;
let anna: Account;
let client: OpenAI;

const configure = (more: Record<string, string> = {}) => ({
  OPENAI_API_KEY: "sk-test",
  OPENAI_BASE_URL: provider.openaiUrl,
  ANTHROPIC_API_KEY: "sk-ant-test",
  ANTHROPIC_BASE_URL: provider.anthropicUrl,
  COMPATIBLE_BASE_URL: provider.openaiUrl,
  AI_MODELS: "openai/one,anthropic/two,compatible/three,compatible/fails,compatible/cut",
  AI_MAX_RETRIES: "0",
  ...more,
});
const connect = (app: TestApp, account: Account) =>
  new OpenAI({ apiKey: account.access_token, baseURL: `${app.url}/v1`, maxRetries: 0 });

beforeAll(async () => {
  provider = startMockProvider();
  parley = await startApp({ config: configure() });
  anna = await parley.register();
  client = connect(parley, anna);
});
beforeEach(() => provider.reset());
afterAll(async () => {
  await parley.stop();
  await provider.stop();
});

const messages = [{ role: "user" as const, content: "Think." }];
type Delta = { content?: string; reasoning_content?: string };

/** A stream as read by OpenAI's client: its texts in order, and the last model named. */
async function stream(model: string, more: object = {}, from = client) {
  const deltas: [field: string, text: string][] = [];
  let named = "";
  const request = { model, messages, stream: true as const, stream_options: { include_usage: true }, ...more };
  let usage: OpenAI.CompletionUsage | null | undefined;
  for await (const chunk of await from.chat.completions.create(request)) {
    const delta = (chunk.choices[0]?.delta ?? {}) as Delta;
    for (const field of ["reasoning_content", "content"] as const) if (delta[field]) deltas.push([field, delta[field]]);
    named = chunk.model;
    usage = chunk.usage ?? usage;
  }
  const join = (field: string) => deltas.flatMap(([name, text]) => (name === field ? [text] : [])).join("");
  return { deltas, reasoning: join("reasoning_content"), content: join("content"), model: named, usage };
}

describe.each(["openai/one", "anthropic/two", "compatible/three"])("%s on /v1", (model) => {
  const name = model.split("/")[1] ?? "";

  test("streams its reasoning as `reasoning_content` before its text", async () => {
    provider.script(name, {
      thinking: ["First, ", "a plan."],
      pieces: ["The ", "answer."],
      pieceDelayMs: 10,
      usage: false,
    });
    const { deltas, usage } = await stream(model);
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

  test("includes it in the message of a complete answer", async () => {
    provider.script(name, { thinking: ["First, ", "a plan."], pieces: ["The answer."] });
    const { choices } = await client.chat.completions.create({ model, messages });
    expect(choices[0]?.message).toMatchObject({ content: "The answer.", reasoning_content: "First, a plan." });
    provider.script(name, { pieces: ["At once."] });
    const plain = await client.chat.completions.create({ model, messages });
    expect(plain.choices[0]?.message).not.toHaveProperty("reasoning_content");
  });
});

describe("a failover on /v1", () => {
  test("during thinking keeps what was shown, and continues with the next model's thinking and name", async () => {
    provider.script("fails", { thinking: ["A wrong idea."], pieces: [], pieceDelayMs: 10, fault: "cut", after: 0 });
    provider.script("three", { thinking: ["A better one."], pieces: ["Done."] });
    const backup = await startApp({ config: configure({ AI_MODELS: "compatible/fails,compatible/three" }) });
    try {
      const account = await backup.register();
      const streamed = await stream("compatible/fails", {}, connect(backup, account));
      expect(streamed.reasoning).toBe("A wrong idea.\n\nA better one.");
      expect(streamed.content).toBe("Done.");
      expect(streamed.model).toBe("compatible/three");
      // If nothing was shown yet, only the kept reasoning.
      const whole = await connect(backup, account).chat.completions.create({ model: "compatible/fails", messages });
      expect(whole.choices[0]?.message).toMatchObject({ content: "Done.", reasoning_content: "A better one." });
      expect(whole.model).toBe("compatible/three");
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
      after: 2,
    });
    provider.script("one", { thinking: ["Go on."], pieces: ["three."] });
    const { reasoning, content } = await stream("compatible/cut");
    expect(content).toBe("One two three.");
    expect(reasoning).toBe("Count.\n\nGo on.");
  });

  test("of every model, during thinking, ends with an error and without [DONE]", async () => {
    for (const name of ["one", "two", "three", "fails", "cut"])
      provider.script(name, { thinking: ["Hm."], pieces: [], pieceDelayMs: 10, fault: "cut", after: 0 });
    await expect(stream("compatible/fails")).rejects.toThrow();
  });
});

test("a stored exchange has the reasoning in its message, visible to members only", async () => {
  const outsider = await parley.register();
  const { id } = await createConversation(parley, anna, [], { reply_mode: "never" });
  provider.script("three", { thinking: ["First, ", "a plan."], pieces: ["The answer."] });
  await stream("compatible/three", { metadata: { conversation_id: id } });
  const path = `/conversations/${id}/messages`;
  type List = { data: { content: string; reasoning: string | null }[] };
  const { data } = (await createRest(parley, anna).get<List>(path)).body;
  expect(data.map(({ content, reasoning }) => [content, reasoning])).toEqual([
    ["Think.", null],
    ["The answer.", "First, a plan."],
  ]);
  expect((await createRest(parley, outsider).get(path)).status).toBe(404);
});

test.each([
  ["stream", "First, a plan."],
  ["off", ""],
])("with AI_REASONING=%s, none of it is stored", async (AI_REASONING, shown) => {
  const app = await startApp({ config: configure({ AI_REASONING }) });
  try {
    const account = await app.register();
    const { id } = await createConversation(app, account, [], { reply_mode: "never" });
    provider.script("three", { thinking: ["First, ", "a plan."], pieces: ["The answer."] });
    const metadata = { conversation_id: id };
    const { reasoning, content } = await stream("compatible/three", { metadata }, connect(app, account));
    expect([reasoning, content]).toEqual([shown, "The answer."]);
    expect(await app.database`select 1 from messages where content = 'The answer.'`).toHaveLength(1);
    // Returned thinking is encrypted for the client, which may read reasoning like text.
    const tool = { type: "function" as const, function: { name: "f", parameters: { type: "object" } } };
    const toolCalls = [{ name: "f", arguments: "{}" }];
    provider.script("two", { thought: "signed", pieces: [], toolCalls });
    const { choices } = await connect(app, account).chat.completions.create({
      ...{ model: "anthropic/two", messages, tools: [tool] },
    });
    type Details = { reasoning_details?: { type: string; format: string }[] };
    const { reasoning_details: details } = (choices[0]?.message ?? {}) as Details;
    expect(details?.at(-1)).toMatchObject({ type: "reasoning.encrypted", format: "parley-v1" });
    expect(details?.some(({ type }) => type === "reasoning.text")).toBe(shown !== "");
    expect(await app.database`select 1 from messages where reasoning is not null`).toHaveLength(0);
  } finally {
    await app.stop();
  }
});
