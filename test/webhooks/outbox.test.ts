import { afterAll, beforeAll, expect, test } from "bun:test";
import { expandOutbox } from "../../src/modules/webhooks/delivery/outbox.ts";
import { createConversation } from "../support/conversation.ts";
import { createWebhook, startWebhooks, type WebhookApp } from "./start-webhooks.ts";

let webhooks: WebhookApp;
beforeAll(async () => {
  webhooks = await startWebhooks();
});
afterAll(() => webhooks.stop());

const EVENT_COUNT = 5_000;
/** If each webhook were checked for each event, the expansion would take ten times as long. */
const EXPANSION_MS_MAX = 1_500;

test("unrelated users' webhooks do not slow down a conversation's deliveries", async () => {
  const { database } = webhooks.parley;
  const [anna, admin, ben] = [await webhooks.register(), await webhooks.registerAdmin(), await webhooks.register()];
  const { id } = await createConversation(webhooks.parley, anna.account);
  await database`
    insert into users (id, email, email_key, display_name, role)
    select gen_random_uuid(), 'crowd' || n || '@example.com', 'crowd' || n || '@example.com', 'Crowd', 'user'
    from generate_series(1, 100) n`;
  await database`
    insert into webhooks (id, user_id, url, events, secret)
    select gen_random_uuid(), u.id, 'https://receiver.invalid/', '{*}', 'sealed'
    from users u, generate_series(1, 20) where u.email like 'crowd%'`;
  const webhookIds = [await createWebhook(anna), await createWebhook(admin, { events: ["*"] })].map(
    (webhook) => webhook.id,
  );
  await createWebhook(ben);
  await createWebhook(anna, { events: ["message.deleted"] });

  let expansionMs = 0;
  await database.begin(async (sql) => {
    // The outbox is expanded before the commit, so that the dispatcher can't expand it first.
    await sql`delete from webhook_outbox`;
    await sql`
      insert into webhook_outbox (conversations, seqs, types, messages, at)
      select array_agg(${id}::uuid), array_agg(n), array_agg('message.created'::text), array_agg(gen_random_uuid()), now()
      from generate_series(1::bigint, ${EVENT_COUNT}::bigint) n`;
    const startedMs = performance.now();
    expect(await expandOutbox(sql, 1)).toEqual({ rowCount: 1, deliveryCount: webhookIds.length * EVENT_COUNT });
    expansionMs = performance.now() - startedMs;
    const deliveries = await sql<{ id: string; count: number }[]>`
      select webhook_id as id, count(*)::int as count from webhook_deliveries where type = 'message.created' group by 1`;
    expect(deliveries.map((row) => row.id).sort()).toEqual([...webhookIds].sort());
    expect(deliveries.map(({ count }) => count)).toEqual([EVENT_COUNT, EVENT_COUNT]);
    await sql`delete from webhook_deliveries`;
  });
  expect(expansionMs).toBeLessThan(EXPANSION_MS_MAX);
});
