import { afterAll, beforeAll, expect, test } from "bun:test";
import { createErasureJobs } from "../../src/modules/conversations/service.ts";
import { createConversation } from "../support/conversation.ts";
import { createWebhook, getDelivery, startWebhooks, type WebhookApp } from "./start-webhooks.ts";

let webhooks: WebhookApp;
beforeAll(async () => {
  webhooks = await startWebhooks();
});
afterAll(() => webhooks.stop());

/** Inserts a finished delivery whose request and response contain the quote, and returns its id. */
async function insertDelivery(webhookId: string, conversationId: string, quote: string): Promise<string> {
  const id = Bun.randomUUIDv7();
  await webhooks.parley.database`
    insert into webhook_deliveries (id, webhook_id, type, conversation_id, occurred_at, status, finished_at, data,
      response_status, response_body)
    values (${id}, ${webhookId}, 'generation.failed', ${conversationId}, now(), 'delivered', now(),
      ${webhooks.parley.database.json({ quote })}, 200, ${quote})`;
  return id;
}

const countQuotes = async (quote: string): Promise<number> => {
  const [row] = await webhooks.parley.database<{ count: number }[]>`
    select count(*)::int as count from webhook_deliveries d where d::text like ${`%${quote}%`}`;
  return row?.count ?? 0;
};

test("deleting a conversation deletes the contents of its deliveries, but not the deliveries themselves", async () => {
  const anna = await webhooks.register();
  const [deletedConversation, keptConversation] = [
    await createConversation(webhooks.parley, anna.account),
    await createConversation(webhooks.parley, anna.account),
  ];
  const { id: webhookId } = await createWebhook(anna);
  const ids: string[] = [];
  for (const { id } of [deletedConversation, keptConversation])
    ids.push(await insertDelivery(webhookId, id, `quote of ${id}`));
  expect(await countQuotes(`quote of ${deletedConversation.id}`)).toBe(1);
  await anna.request("DELETE", `/conversations/${deletedConversation.id}`);
  await createErasureJobs({ database: webhooks.parley.database }).run(new AbortController().signal);
  expect(await countQuotes(`quote of ${deletedConversation.id}`)).toBe(0);
  expect(await countQuotes(`quote of ${keptConversation.id}`)).toBe(1);
  const delivery = await getDelivery(anna, webhookId, ids[0] ?? "");
  expect(delivery).toMatchObject({ status: "delivered", response_status: 200, response_body: null });
});

test("deleting a conversation clears more deliveries than fit in a batch", async () => {
  const anna = await webhooks.register();
  const { id } = await createConversation(webhooks.parley, anna.account);
  const { id: webhookId } = await createWebhook(anna);
  await webhooks.parley.database`
    insert into webhook_deliveries (id, webhook_id, type, conversation_id, occurred_at, status, finished_at, response_body)
    select gen_random_uuid(), ${webhookId}, 'message.created', ${id}, now(), 'delivered', now(), 'many quotes'
    from generate_series(1, 12000)`;
  await anna.request("DELETE", `/conversations/${id}`);
  await createErasureJobs({ database: webhooks.parley.database }).run(new AbortController().signal);
  expect(await countQuotes("many quotes")).toBe(0);
  expect(await webhooks.parley.database`select 1 from conversations where id = ${id}`).toHaveLength(0);
});

test("deleting a user deletes their webhooks and thousands of deliveries", async () => {
  const anna = await webhooks.register();
  const ben = await webhooks.register();
  const [{ id: deletedWebhookId }, { id: keptWebhookId }] = [await createWebhook(anna), await createWebhook(ben)];
  for (const id of [deletedWebhookId, keptWebhookId])
    await webhooks.parley.database`
      insert into webhook_deliveries (id, webhook_id, type, occurred_at, status, finished_at)
      select gen_random_uuid(), ${id}, 'message.created', now(), 'delivered', now() from generate_series(1, 2500)`;
  const admin = await webhooks.registerAdmin();
  expect((await admin.request("DELETE", `/users/${anna.id}`)).status).toBe(204);
  const remaining = await webhooks.parley.database<{ webhook_id: string; count: number }[]>`
    select w.id as webhook_id, count(*)::int as count from webhooks w join webhook_deliveries d on d.webhook_id = w.id
    where w.id in (${deletedWebhookId}, ${keptWebhookId}) group by w.id`;
  expect([...remaining]).toEqual([{ webhook_id: keptWebhookId, count: 2500 }]);
});
