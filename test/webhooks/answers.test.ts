import { afterAll, beforeAll, expect, test } from "bun:test";
import { createConversation } from "../support/conversation.ts";
import { startReceiver, verify } from "./receiver.ts";
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
  const [forMember, forOutsider] = [startReceiver(), startReceiver()];
  const [rest, outsider] = [await app.register(), await app.register()];
  const events = ["generation.failed", "message.completed"];
  const { secret } = await createWebhook(rest, { url: forMember.url, events });
  await createWebhook(outsider, { url: forOutsider.url, events });
  const { id } = await createConversation(app.parley, rest.account);
  const { body } = await rest.request<{ reply: { id: string } }>("POST", `/conversations/${id}/messages`, {
    content: "Anybody?",
    reply: true,
  });
  const received = await forMember.wait(2);
  const failed = received.find(({ json }) => json.type === "generation.failed");
  verify(secret, failed as never);
  expect(failed?.json).toMatchObject({
    conversation_id: id,
    data: {
      generation_id: expect.any(String),
      message_id: body.reply.id,
      error: { code: expect.any(String), detail: expect.any(String) },
    },
  });
  expect(failed?.json.seq).toBeUndefined();
  const completed = received.find(({ json }) => json.type === "message.completed");
  expect(completed?.json.data).toMatchObject({ id: body.reply.id, status: "failed" });
  expect(forOutsider.received).toHaveLength(0);
  await Promise.all([forMember.stop(), forOutsider.stop()]);
});

test("an exhausted budget is reported only to its user and to administrators, once a day", async () => {
  const [forUser, forMember, forAdmin] = [startReceiver(), startReceiver(), startReceiver()];
  const [user, member, admin] = [
    await lowBudgetApp.register(),
    await lowBudgetApp.register(),
    await lowBudgetApp.registerAdmin(),
  ];
  const events = ["budget.exceeded"];
  await createWebhook(user, { url: forUser.url, events });
  await createWebhook(member, { url: forMember.url, events });
  await createWebhook(admin, { url: forAdmin.url, events });
  const { id } = await createConversation(lowBudgetApp.parley, user.account, [member.account]);
  for (let n = 0; n < 3; n += 1) {
    const content = "A question that is too long. ".repeat(1_000);
    const refused = await user.requestProblem("POST", `/conversations/${id}/messages`, { content, reply: true });
    expect(refused.code).toBe("budget_exceeded");
  }
  const [event] = await forUser.wait(1);
  await forAdmin.wait(1);
  expect(event?.json).toMatchObject({ type: "budget.exceeded", data: { user_id: user.id, period: "day" } });
  await Bun.sleep(900);
  expect([forUser, forAdmin, forMember].map(({ received }) => received.length)).toEqual([1, 1, 0]);
  await Promise.all([forUser.stop(), forMember.stop(), forAdmin.stop()]);
});
