import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { insertAnswer } from "../support/answer.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { openSocket } from "../support/socket.ts";
import { waitUntil } from "../support/wait-until.ts";

type StoredAnswer = { id: string; status: string; content: string; fence: number; interruptions: number };

let provider: MockProvider;
let firstInstance: TestApp;
let secondInstance: TestApp;
let anna: Account;

beforeAll(async () => {
  provider = startMockProvider();
  const database = await createTestDatabase(10);
  const options = {
    database,
    config: { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/one", AI_MAX_RETRIES: "0" },
  };
  firstInstance = await startApp(options);
  secondInstance = await startApp(options);
  anna = await firstInstance.register();
});
afterAll(async () => {
  await firstInstance.stop();
  await secondInstance.stop();
  await provider.stop();
  await firstInstance.database.end({ timeout: 1 });
});

const slowScript = { pieces: Array.from({ length: 200 }, (_, n) => `w${n} `), pieceDelayMs: 20 };

async function startAnswer(): Promise<{ conversationId: string; messageId: string }> {
  const { id: conversationId } = await createConversation(firstInstance, anna);
  const sendResponse = await firstInstance.fetch(`/api/v1/conversations/${conversationId}/messages`, {
    token: anna.access_token,
    json: { content: "Talk to me.", reply: true },
  });
  const { reply } = (await sendResponse.json()) as { reply: { id: string } };
  return { conversationId, messageId: reply.id };
}

const findAnswer = async (messageId: string): Promise<StoredAnswer | undefined> => {
  const [row] = await firstInstance.database<StoredAnswer[]>`
    select x.id, x.status, x.content, g.fence, g.interruptions from current_messages x join generations g on g.message_id = x.id
    where x.id = ${messageId}`;
  return row;
};

describe("generation leases:", () => {
  test("an answer is cancelled by a request to another instance", async () => {
    provider.script("one", slowScript);
    const { conversationId, messageId } = await startAnswer();
    await waitUntil(async () => (await findAnswer(messageId))?.content !== "", 3_000);
    const path = `/api/v1/conversations/${conversationId}/messages/${messageId}/cancel`;
    expect((await secondInstance.fetch(path, { method: "POST", token: anna.access_token })).status).toBe(200);
    await waitUntil(async () => (await findAnswer(messageId))?.status === "cancelled", 3_000);
  });

  test("an answer whose owner crashed is continued by another instance", async () => {
    provider.script("one", slowScript, { text: "and the end." });
    const { conversationId, messageId } = await startAnswer();
    await waitUntil(async () => ((await findAnswer(messageId))?.content.length ?? 0) > 20, 5_000);
    const sockets = await Promise.all(
      [firstInstance, secondInstance].map(({ url }) => openSocket(url, { token: anna.access_token })),
    );
    for (const socket of sockets) await socket.request({ type: "subscribe", conversation_id: conversationId });
    // Simulates a crashed owner. The lease has expired and belongs to a different instance, so the owner's later writes
    // are rejected.
    await firstInstance.database`
      update generations set owner = gen_random_uuid(), lease_until = now() - interval '1 s' where message_id = ${messageId}`;
    await waitUntil(async () => (await findAnswer(messageId))?.status === "complete", 12_000);
    // Either instance may take over the answer. Only readers on the instance that takes over receive the rest of the answer.
    await Bun.sleep(100);
    const frames =
      sockets.map((socket) => socket.frames).find((received) => received.some(({ attempt }) => attempt === 2)) ?? [];
    const reset = frames.find((frame) => frame.type === "message.reset" && frame.attempt === 2);
    const completedFrame = frames.find((frame) => frame.type === "message.completed");
    expect(reset).toMatchObject({ message_id: messageId });
    expect(String(reset?.text).length).toBeGreaterThan(20);
    expect(completedFrame?.data).toMatchObject({ status: "complete", content: `${reset?.text}and the end.` });
    expect(await findAnswer(messageId)).toMatchObject({
      status: "complete",
      fence: 2,
      interruptions: 1,
      content: String(completedFrame?.data?.content),
    });
    await Promise.all(sockets.map((socket) => socket.close()));
  }, 20_000);

  test("a pending answer that no instance has started is started later", async () => {
    provider.script("one", { text: "A late answer." });
    const { conversationId } = await startAnswer();
    const createdAt = new Date(Date.now() - 10_000);
    const pendingAnswer = await insertAnswer(firstInstance.database, {
      conversationId,
      seq: 99,
      status: "pending",
      createdAt,
    });
    const messageId = pendingAnswer.message_id;
    await waitUntil(async () => (await findAnswer(messageId))?.status === "complete", 8_000);
    expect((await findAnswer(messageId))?.content).toBe("A late answer.");
  }, 15_000);
});
