import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Message } from "../../src/protocol/message.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import type { ThinkingFormat } from "../support/mock-provider/thinking.ts";
import { openSocket, type TestSocket } from "../support/socket.ts";

let provider: MockProvider;
let parley: TestApp;
let anna: Account;
let conversation_id: string;
let socket: TestSocket;

beforeAll(async () => {
  provider = startMockProvider();
  parley = await startApp({
    config: {
      OPENAI_API_KEY: "sk-test",
      OPENAI_BASE_URL: provider.openaiUrl,
      ANTHROPIC_API_KEY: "sk-ant-test",
      ANTHROPIC_BASE_URL: provider.anthropicUrl,
      COMPATIBLE_BASE_URL: provider.openaiUrl,
      AI_MODELS: "openai/one,anthropic/two,compatible/three,anthropic/claude-sonnet-4-5",
      AI_MAX_RETRIES: "0",
      AI_IDLE_TIMEOUT_MS: "5000",
    },
  });
  anna = await parley.register();
});
beforeEach(async () => {
  provider.reset();
  const input = { reply_mode: "always", title: "Tools", tools: true };
  conversation_id = (await createConversation(parley, anna, [], input)).id;
  socket = await openSocket(parley.url, { token: anna.access_token });
  await socket.request({ type: "subscribe", conversation_id });
});
afterAll(async () => {
  await parley.stop();
  await provider.stop();
});

const createSearchCall = (query: string) => ({ name: "search_documents", arguments: JSON.stringify({ query }) });

async function requestAnswer(model: string): Promise<Message> {
  await socket.request({
    type: "message.send",
    conversation_id,
    content: "How do I connect a model?",
    client_message_id: "c1",
    model,
  });
  const { data } = await socket.waitFor(({ type }) => type === "message.completed");
  return data as Message;
}
const formatRequestBody = (index: number) => JSON.stringify(provider.requests.at(index)?.body);

const modelFormats: [string, ThinkingFormat][] = [
  ["anthropic/two", "signed"],
  ["openai/one", "encrypted"],
  ["compatible/three", "plain"],
  ["compatible/three", "signature"],
  ["compatible/three", "details"],
];

describe("a model's thinking", () => {
  test.each(modelFormats)("is sent back to %s (%s) with its tool calls", async (model, thinkingFormat) => {
    provider.script(
      model.split("/")[1] ?? "",
      // Two parallel calls, then a single one.
      { text: "Let me look. ", toolCalls: [createSearchCall("connect"), createSearchCall("model")], thinkingFormat },
      { toolCalls: [createSearchCall("AI_MODELS")], thinkingFormat },
      { text: "It is described in models.md.", thinkingFormat },
    );
    const message = await requestAnswer(model);
    expect(provider.thinkingErrors).toEqual([]);
    expect(message).toMatchObject({
      content: "Let me look. It is described in models.md.",
      status: "complete",
      model,
      metadata: { models: [model] },
    });
    expect(provider.requests).toHaveLength(3);
    expect(await countStoredThinking()).toBe(0);
  });
});

test("a conversation's reasoning effort sets a thinking budget in each step of a tool loop", async () => {
  const model = "anthropic/claude-sonnet-4-5";
  const input = { reply_mode: "always", title: "Effort", tools: true, reasoning_effort: "high" };
  conversation_id = (await createConversation(parley, anna, [], input)).id;
  await socket.request({ type: "subscribe", conversation_id });
  const thinkingFormat = "signed";
  provider.script(
    "claude-sonnet-4-5",
    { toolCalls: [createSearchCall("connect")], thinkingFormat },
    { toolCalls: [createSearchCall("model")], thinkingFormat },
    { text: "Done.", thinkingFormat },
  );
  expect(await requestAnswer(model)).toMatchObject({ content: "Done.", model });
  expect(provider.thinkingErrors).toEqual([]);
  const thinking = { type: "enabled", budget_tokens: 16_384 };
  expect(provider.requests.map(({ body }) => body.thinking)).toEqual([thinking, thinking, thinking]);
});

const countStoredThinking = async (): Promise<number> => {
  const [row] = await parley.database<{ count: number }[]>`select count(*)::int as count from generation_thinking`;
  return row?.count ?? -1;
};
/** Returns a string that the mock provider includes in all of this model's thinking, and in no other model's. */
const createTrace = (model: string): string => `${model.split("/")[1]} `;

/** A fault that makes a model fail over, but stay available for later steps. */
const failoverFault = { fault: "status", status: 400 } as const;

describe("a failover during a tool loop", () => {
  test.each(
    modelFormats.flatMap(([first, firstFormat]) =>
      modelFormats
        .filter(([other]) => other !== first)
        .map(([other, otherFormat]) => [first, firstFormat, other, otherFormat] as const),
    ),
  )(
    "from %s (%s) to %s (%s) sends each model only its own thinking",
    async (first, thinkingFormat, other, otherFormat) => {
      const [firstName = "", otherName = ""] = [first, other].map((model) => model.split("/")[1]);
      provider.script(
        firstName,
        { toolCalls: [createSearchCall("one"), createSearchCall("two")], thinkingFormat },
        { ...failoverFault, thinkingFormat },
        { toolCalls: [createSearchCall("four")], thinkingFormat },
        { text: "Done.", thinkingFormat },
      );
      provider.script(otherName, { toolCalls: [createSearchCall("three")], thinkingFormat: otherFormat });
      for (const model of ["one", "two", "three", "claude-sonnet-4-5"])
        if (model !== firstName && model !== otherName) provider.script(model, failoverFault);
      const message = await requestAnswer(first);
      expect(message).toMatchObject({ content: "Done.", status: "complete", model: first });
      // The server rejects missing thinking, and the request is retried in an accepted form.
      const recoverablePattern = /must be passed back|missing a thought_signature/;
      expect(provider.thinkingErrors.filter((message) => !recoverablePattern.test(message))).toEqual([]);
      for (const { model, body } of provider.requests) {
        const otherModels = ["one", "two", "three"].filter((name) => name !== model);
        for (const name of otherModels)
          expect(JSON.stringify(body)).not.toMatch(new RegExp(`(?:Thought|signed|encrypted|redacted) ${name} `));
      }
      // The first model receives its own thinking again.
      if (thinkingFormat !== "signature") expect(formatRequestBody(-1)).toContain(createTrace(first));
    },
  );
});
