import { afterAll, beforeAll, expect, test } from "bun:test";
import { createConversation } from "../support/conversation.ts";
import { startReceiver, verifySignature } from "./receiver.ts";
import { createWebhook, startWebhooks, type WebhookApp } from "./start-webhooks.ts";

const config = {
  WEBHOOK_ALLOW_PRIVATE_NETWORKS: "true",
  // Nothing listens at this URL.
  COMPATIBLE_BASE_URL: "http://127.0.0.1:9/v1",
  AI_MODELS: "compatible/one",
  AI_MAX_RETRIES: "0",
};
let app: WebhookApp;
let lowBudgetApp: WebhookApp;
beforeAll(async () => {
  app = await startWebhooks(config);
  lowBudgetApp = await startWebhooks({ ...config, BUDGET_ANSWER_TOKENS: "100", BUDGET_USER_TOKENS_PER_DAY: "2000" });
});
afterAll(() => Promise.all([app.stop(), lowBudgetApp.stop()]));

test("a failed answer is reported only to members of its conversation", async () => {
  const [memberReceiver, outsiderReceiver] = [startReceiver(), startReceiver()];
  const [rest, outsider] = [await app.register(), await app.register()];
  const events = ["generation.failed", "message.completed"];
  const { secret } = await createWebhook(rest, { url: memberReceiver.url, events });
  await createWebhook(outsider, { url: outsiderReceiver.url, events });
  const { id } = await createConversation(app.parley, rest.account);
  const { body } = await rest.request<{ reply: { id: string } }>("POST", `/conversations/${id}/messages`, {
    content: "Anybody?",
    reply: true,
  });
  const received = await memberReceiver.waitForRequests(2);
  const failedRequest = received.find(({ json }) => json.type === "generation.failed");
  verifySignature(secret, failedRequest as never);
  expect(failedRequest?.json).toMatchObject({
    conversation_id: id,
    data: {
      generation_id: expect.any(String),
      message_id: body.reply.id,
      error: { code: expect.any(String), detail: expect.any(String) },
    },
  });
  expect(failedRequest?.json.seq).toBeUndefined();
  const completedRequest = received.find(({ json }) => json.type === "message.completed");
  expect(completedRequest?.json.data).toMatchObject({ id: body.reply.id, status: "failed" });
  expect(outsiderReceiver.received).toHaveLength(0);
  await Promise.all([memberReceiver.stop(), outsiderReceiver.stop()]);
});

test("an exhausted budget is reported only to its user and to administrators, once a day", async () => {
  const [userReceiver, memberReceiver, adminReceiver] = [startReceiver(), startReceiver(), startReceiver()];
  const [user, member, admin] = [
    await lowBudgetApp.register(),
    await lowBudgetApp.register(),
    await lowBudgetApp.registerAdmin(),
  ];
  const events = ["budget.exceeded"];
  await createWebhook(user, { url: userReceiver.url, events });
  await createWebhook(member, { url: memberReceiver.url, events });
  await createWebhook(admin, { url: adminReceiver.url, events });
  const { id } = await createConversation(lowBudgetApp.parley, user.account, [member.account]);
  for (let n = 0; n < 3; n += 1) {
    const content = "A question that is too long. ".repeat(1_000);
    const problem = await user.requestProblem("POST", `/conversations/${id}/messages`, { content, reply: true });
    expect(problem.code).toBe("budget_exceeded");
  }
  const [event] = await userReceiver.waitForRequests(1);
  await adminReceiver.waitForRequests(1);
  expect(event?.json).toMatchObject({ type: "budget.exceeded", data: { user_id: user.id, period: "day" } });
  await Bun.sleep(900);
  expect([userReceiver, adminReceiver, memberReceiver].map(({ received }) => received.length)).toEqual([1, 1, 0]);
  await Promise.all([userReceiver.stop(), memberReceiver.stop(), adminReceiver.stop()]);
});
