import { afterAll, beforeAll, expect, test } from "bun:test";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRestClient } from "../support/rest.ts";
import { startReceiver, verifySignature } from "./receiver.ts";
import { createWebhook } from "./start-webhooks.ts";

type TestDatabase = Awaited<ReturnType<typeof createTestDatabase>>;

let testDatabase: TestDatabase;
let firstApp: TestApp;
let secondApp: TestApp;
const startInstance = () => startApp({ database: testDatabase, config: { WEBHOOK_ALLOW_PRIVATE_NETWORKS: "true" } });
beforeAll(async () => {
  testDatabase = await createTestDatabase(10);
  [firstApp, secondApp] = [await startInstance(), await startInstance()];
});
afterAll(async () => {
  await Promise.all([firstApp.stop(), secondApp.stop()]);
  await testDatabase.database.end({ timeout: 1 });
});

const MESSAGE_COUNT = 100;

test("each endpoint receives every event once and in the conversation's order, even though several instances share the endpoints", async () => {
  const receivers = Array.from({ length: 4 }, () => startReceiver());
  const account = await firstApp.register();
  const rest = createRestClient(firstApp, account);
  const webhooks = await Promise.all(receivers.map(({ url }) => createWebhook(rest, { url })));
  const conversations = await Promise.all([0, 1, 2, 3].map(() => createConversation(firstApp, account)));
  for (let n = 0; n < MESSAGE_COUNT; n += 1) {
    const parley = n % 2 === 0 ? firstApp : secondApp;
    await createRestClient(parley, account).request("POST", `/conversations/${conversations[n % 4]?.id}/messages`, {
      content: `${n}`,
    });
  }
  await Promise.all(receivers.map((receiver) => receiver.waitForRequests(MESSAGE_COUNT)));
  await Bun.sleep(500);
  receivers.forEach(({ received }, index) => {
    expect(received).toHaveLength(MESSAGE_COUNT);
    expect(new Set(received.map(({ id }) => id)).size).toBe(MESSAGE_COUNT);
    for (const conversation of conversations) {
      const seqs = received.flatMap(({ json }) => (json.conversation_id === conversation.id ? (json.seq ?? 0) : []));
      expect(seqs).toEqual(seqs.toSorted((first, second) => first - second));
    }
    for (const request of received) verifySignature(webhooks[index]?.secret ?? "", request);
  });
  await Promise.all(receivers.map(({ stop }) => stop()));
  await testDatabase.database`delete from webhooks`;
});

test("deliveries claimed by a crashed instance are sent once after its lease expires", async () => {
  const receiver = startReceiver();
  const account = await firstApp.register();
  const rest = createRestClient(firstApp, account);
  const { id } = await createWebhook(rest, { url: receiver.url });
  const conversation = await createConversation(firstApp, account);
  await testDatabase.database`
    update webhooks set owner = gen_random_uuid(), fence = fence + 1, lease_until = now() + interval '2 s' where id = ${id}`;
  const claimedAtMs = performance.now();
  await rest.request("POST", `/conversations/${conversation.id}/messages`, { content: "Still there?" });
  const [received] = await receiver.waitForRequests(1);
  expect((received?.atMs ?? 0) - claimedAtMs).toBeGreaterThan(1_900);
  await Bun.sleep(700);
  expect(receiver.received).toHaveLength(1);
  await receiver.stop();
  await testDatabase.database`delete from webhooks`;
});

test("a stopping instance hands over its deliveries without losing any", async () => {
  const receiver = startReceiver(async () => {
    await Bun.sleep(20);
    return new Response();
  });
  const account = await firstApp.register();
  const rest = createRestClient(firstApp, account);
  await createWebhook(rest, { url: receiver.url });
  const conversations = await Promise.all(Array.from({ length: 20 }, () => createConversation(firstApp, account)));
  for (let n = 0; n < 5; n += 1)
    await Promise.all(
      conversations.map(({ id }) => rest.request("POST", `/conversations/${id}/messages`, { content: `${n}` })),
    );
  await secondApp.stop();
  secondApp = await startInstance();
  await receiver.waitForRequests(100);
  expect(new Set(receiver.received.map(({ id }) => id)).size).toBe(100);
  await receiver.stop();
});
