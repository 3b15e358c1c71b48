import { afterAll, beforeAll, expect, test } from "bun:test";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRestClient } from "../support/rest.ts";
import { startReceiver, verify } from "./receiver.ts";
import { createWebhook } from "./start-webhooks.ts";

type Shared = Awaited<ReturnType<typeof createTestDatabase>>;

let shared: Shared;
let first: TestApp;
let second: TestApp;
const start = () => startApp({ database: shared, config: { WEBHOOK_ALLOW_PRIVATE_NETWORKS: "true" } });
beforeAll(async () => {
  shared = await createTestDatabase(10);
  [first, second] = [await start(), await start()];
});
afterAll(async () => {
  await Promise.all([first.stop(), second.stop()]);
  await shared.database.end({ timeout: 1 });
});

const MESSAGES = 100;

test("several instances share the endpoints, each of which receives every event once, in the conversation's order", async () => {
  const receivers = Array.from({ length: 4 }, () => startReceiver());
  const account = await first.register();
  const rest = createRestClient(first, account);
  const webhooks = await Promise.all(receivers.map(({ url }) => createWebhook(rest, { url })));
  const conversations = await Promise.all([0, 1, 2, 3].map(() => createConversation(first, account)));
  for (let n = 0; n < MESSAGES; n += 1) {
    const parley = n % 2 === 0 ? first : second;
    await createRestClient(parley, account).request("POST", `/conversations/${conversations[n % 4]?.id}/messages`, {
      content: `${n}`,
    });
  }
  await Promise.all(receivers.map((receiver) => receiver.wait(MESSAGES)));
  await Bun.sleep(500);
  receivers.forEach(({ received }, index) => {
    expect(received).toHaveLength(MESSAGES);
    expect(new Set(received.map(({ id }) => id)).size).toBe(MESSAGES);
    for (const conversation of conversations) {
      const seqs = received.flatMap(({ json }) => (json.conversation_id === conversation.id ? (json.seq ?? 0) : []));
      expect(seqs).toEqual(seqs.toSorted((first, second) => first - second));
    }
    for (const request of received) verify(webhooks[index]?.secret ?? "", request);
  });
  await Promise.all(receivers.map(({ stop }) => stop()));
  await shared.database`delete from webhooks`;
});

test("deliveries claimed by a crashed instance are sent once after its lease expires", async () => {
  const receiver = startReceiver();
  const account = await first.register();
  const rest = createRestClient(first, account);
  const { id } = await createWebhook(rest, { url: receiver.url });
  const conversation = await createConversation(first, account);
  await shared.database`
    update webhooks set owner = gen_random_uuid(), fence = fence + 1, lease_until = now() + interval '2 s' where id = ${id}`;
  const claimedAtMs = performance.now();
  await rest.request("POST", `/conversations/${conversation.id}/messages`, { content: "Still there?" });
  const [received] = await receiver.wait(1);
  expect((received?.atMs ?? 0) - claimedAtMs).toBeGreaterThan(1_900);
  await Bun.sleep(700);
  expect(receiver.received).toHaveLength(1);
  await receiver.stop();
  await shared.database`delete from webhooks`;
});

test("a stopping instance hands over its deliveries without losing any", async () => {
  const receiver = startReceiver(async () => {
    await Bun.sleep(20);
    return new Response();
  });
  const account = await first.register();
  const rest = createRestClient(first, account);
  await createWebhook(rest, { url: receiver.url });
  const conversations = await Promise.all(Array.from({ length: 20 }, () => createConversation(first, account)));
  for (let n = 0; n < 5; n += 1)
    await Promise.all(
      conversations.map(({ id }) => rest.request("POST", `/conversations/${id}/messages`, { content: `${n}` })),
    );
  await second.stop();
  second = await start();
  await receiver.wait(100);
  expect(new Set(receiver.received.map(({ id }) => id)).size).toBe(100);
  await receiver.stop();
});
