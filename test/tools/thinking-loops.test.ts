import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Message } from "../../src/protocol/message.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import type { ThinkingFormat } from "../support/mock-provider/thoughts.ts";
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

const search = (query: string) => ({ name: "search_documents", arguments: JSON.stringify({ query }) });

async function ask(model: string): Promise<Message> {
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
const bodyOf = (index: number) => JSON.stringify(provider.requests.at(index)?.body);

const kinds: [string, ThinkingFormat][] = [
  ["anthropic/two", "signed"],
  ["openai/one", "encrypted"],
  ["compatible/three", "plain"],
  ["compatible/three", "signature"],
  ["compatible/three", "details"],
];

describe("the thinking of a model is returned to it with its calls", () => {
  test.each(kinds)("%s, %s", async (model, thought) => {
    provider.script(
      model.split("/")[1] ?? "",
      // Parallel calls, then a single one.
      { text: "Let me look. ", toolCalls: [search("connect"), search("model")], thought },
      { toolCalls: [search("AI_MODELS")], thought },
      { text: "It is described in models.md.", thought },
    );
    const message = await ask(model);
    expect(provider.refusals).toEqual([]);
    expect(message).toMatchObject({
      content: "Let me look. It is described in models.md.",
      status: "complete",
      model,
      metadata: { models: [model] },
    });
    expect(provider.requests).toHaveLength(3);
    expect(await countKept()).toBe(0);
  });
});

test("the effort of a conversation sets a budget in each step of a loop", async () => {
  const model = "anthropic/claude-sonnet-4-5";
  const input = { reply_mode: "always", title: "Effort", tools: true, reasoning_effort: "high" };
  conversation_id = (await createConversation(parley, anna, [], input)).id;
  await socket.request({ type: "subscribe", conversation_id });
  const thought = "signed";
  provider.script(
    "claude-sonnet-4-5",
    { toolCalls: [search("connect")], thought },
    { toolCalls: [search("model")], thought },
    { text: "Done.", thought },
  );
  expect(await ask(model)).toMatchObject({ content: "Done.", model });
  expect(provider.refusals).toEqual([]);
  const thinking = { type: "enabled", budget_tokens: 16_384 };
  expect(provider.requests.map(({ body }) => body.thinking)).toEqual([thinking, thinking, thinking]);
});

const countKept = async (): Promise<number> => {
  const [row] = await parley.database<{ count: number }[]>`select count(*)::int as count from generation_thinking`;
  return row?.count ?? -1;
};
/** The text that the mock server adds to everything meant for one model only. */
const traceOf = (model: string): string => `${model.split("/")[1]} `;

/** It keeps the model available for a later step. */
const refusing = { fault: "status", status: 400 } as const;

describe("failover in mid-loop", () => {
  test.each(
    kinds.flatMap(([first, thought]) =>
      kinds.filter(([other]) => other !== first).map(([other, kind]) => [first, thought, other, kind] as const),
    ),
  )(
    "%s (%s) to %s (%s): no thinking is mixed up, and the first model gets its own back",
    async (first, thought, other, kind) => {
      const [one = "", two = ""] = [first, other].map((model) => model.split("/")[1]);
      provider.script(
        one,
        { toolCalls: [search("one"), search("two")], thought },
        { ...refusing, thought },
        { toolCalls: [search("four")], thought },
        { text: "Done.", thought },
      );
      provider.script(two, { toolCalls: [search("three")], thought: kind });
      for (const model of ["one", "two", "three", "claude-sonnet-4-5"])
        if (model !== one && model !== two) provider.script(model, refusing);
      const message = await ask(first);
      expect(message).toMatchObject({ content: "Done.", status: "complete", model: first });
      // The server rejects missing thinking, and the request is repeated in an accepted form.
      const recoverable = /must be passed back|missing a thought_signature/;
      expect(provider.refusals.filter((refusal) => !recoverable.test(refusal))).toEqual([]);
      for (const { model, body } of provider.requests) {
        const foreign = ["one", "two", "three"].filter((name) => name !== model);
        for (const name of foreign)
          expect(JSON.stringify(body)).not.toMatch(new RegExp(`(?:Thought|signed|encrypted|redacted) ${name} `));
      }
      // The first one was retried with its own thinking.
      if (thought !== "signature") expect(bodyOf(-1)).toContain(traceOf(first));
    },
  );
});
