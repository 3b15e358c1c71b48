import { afterAll, beforeAll, expect, test } from "bun:test";
import { expandOutbox } from "../../src/modules/webhooks/delivery/outbox.ts";
import { createConversation } from "../support/conversation.ts";
import { createWebhook, startWebhooks, type WithWebhooks } from "./start-webhooks.ts";

let webhooks: WithWebhooks;
beforeAll(async () => {
  webhooks = await startWebhooks();
});
afterAll(() => webhooks.stop());

const EVENTS = 5_000;
/** Checking each webhook for each event takes ten times as long. */
const EXPANSION_MS_MAX = 1_500;

test("webhooks of unrelated users do not slow down the deliveries of a conversation", async () => {
  const { database } = webhooks.parley;
  const [anna, admin, ben] = [await webhooks.join(), await webhooks.joinAdmin(), await webhooks.join()];
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

  let expandedMs = 0;
  await database.begin(async (sql) => {
    // Unnoticed by the dispatcher, which would be faster.
    await sql`delete from webhook_outbox`;
    await sql`
      insert into webhook_outbox (conversations, seqs, types, messages, at)
      select array_agg(${id}::uuid), array_agg(n), array_agg('message.created'::text), array_agg(gen_random_uuid()), now()
      from generate_series(1::bigint, ${EVENTS}::bigint) n`;
    const startedMs = performance.now();
    expect(await expandOutbox(sql, 1)).toEqual({ taken: 1, made: webhookIds.length * EVENTS });
    expandedMs = performance.now() - startedMs;
    const made = await sql<{ id: string; count: number }[]>`
      select webhook_id as id, count(*)::int as count from webhook_deliveries where type = 'message.created' group by 1`;
    expect(made.map((one) => one.id).sort()).toEqual([...webhookIds].sort());
    expect(made.map(({ count }) => count)).toEqual([EVENTS, EVENTS]);
    await sql`delete from webhook_deliveries`;
  });
  expect(expandedMs).toBeLessThan(EXPANSION_MS_MAX);
});
