import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Message } from "../../src/protocol/message.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { waitUntil } from "../support/wait-until.ts";

let provider: MockProvider;
let firstInstance: TestApp;
let secondInstance: TestApp;
let anna: Account;
let restClient: RestClient;
beforeAll(async () => {
  provider = startMockProvider();
  const database = await createTestDatabase(10);
  const config = { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/one", AI_MAX_RETRIES: "0" };
  firstInstance = await startApp({ database, config });
  secondInstance = await startApp({ database, config });
  anna = await firstInstance.register();
  restClient = createRestClient(secondInstance, anna);
});
afterAll(async () => {
  await firstInstance.stop();
  await secondInstance.stop();
  await provider.stop();
  await firstInstance.database.end({ timeout: 1 });
});

const schema = { type: "object", properties: { zebra: { type: "string" }, apple: { type: "string" } } };

test.each([
  ["of the message", { reasoning_effort: "high", reply_format: { name: "fruit", schema } }, "high"],
  ["of the conversation at the time of the question", {}, "low"],
])(
  "an answer taken over by another instance keeps the reasoning effort and format %s",
  async (_name, options, effort) => {
    provider.reset();
    const chunks = Array.from({ length: 400 }, (_, n) => `begun${n} `);
    provider.script("one", { pieces: ['{"zebra":"', ...chunks], pieceDelayMs: 20 }, { text: '{"zebra":"on"}' });
    const { id } = await createConversation(firstInstance, anna, [], {
      title: "T",
      kind: "direct",
      reasoning_effort: "low",
    });
    const sendResponse = await firstInstance.fetch(`/api/v1/conversations/${id}/messages`, {
      token: anna.access_token,
      json: { content: "Hello.", reply: true, ...options },
    });
    const { reply } = (await sendResponse.json()) as { reply: Message };
    await waitUntil(async () => {
      const [row] = await firstInstance.database`select 1 from generation_pieces where conversation_id = ${id}`;
      return row !== undefined;
    }, 10_000);
    await restClient.request("PATCH", `/conversations/${id}`, { reasoning_effort: "xhigh" });
    await firstInstance.database`
    update generations set owner = gen_random_uuid(), lease_until = now() - interval '1 s' where message_id = ${reply.id}`;
    const getAnswer = async () => (await restClient.get<Message>(`/conversations/${id}/messages/${reply.id}`)).body;
    await waitUntil(async () => (await getAnswer()).status === "complete", 20_000);
    expect((await getAnswer()).content).toEndWith('{"zebra":"on"}');
    expect(provider.requests.map(({ body }) => body.reasoning_effort)).toEqual([effort, effort]);
    const formats = provider.requests.map(({ body }) => body.response_format);
    expect(formats[1]).toEqual(formats[0]);
    expect(formats[0] !== undefined).toBe("reply_format" in options);
    const [row] = await firstInstance.database<{ reply_format: unknown; fence: number }[]>`
    select reply_format, fence from generations where message_id = ${reply.id}`;
    expect(row?.reply_format ?? null).toEqual((options as { reply_format?: object }).reply_format ?? null);
    expect(row?.fence).toBeGreaterThan(1);
  },
  40_000,
);
