import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Database } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import { createMetrics } from "../../src/lib/metrics.ts";
import type { SendOutgoing } from "../../src/modules/webhooks/delivery/attempt.ts";
import { createWebhookDispatcher } from "../../src/modules/webhooks/delivery/dispatcher.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";

let database: Database;
beforeAll(async () => {
  ({ database } = await createTestDatabase(10));
});
afterAll(() => database.end({ timeout: 1 }));

const createDispatcher = (send: SendOutgoing, endpointsMax: number) =>
  createWebhookDispatcher({
    database,
    audit: { record: async () => {} },
    metrics: createMetrics({ version: "test", commit: "test" }),
    log: silentLog,
    instanceId: createId(),
    secrets: { open: () => "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" },
    send,
    hasUserMessage: (error): error is Error => error instanceof Error,
    allowPrivate: true,
    timeoutMs: 200,
    endpointsMax,
  });

/** Inserts a webhook with due deliveries for a new user, and returns its id. */
async function insertWebhook(url: string, deliveryCount: number): Promise<string> {
  const [userId, id] = [createId(), createId()];
  const email = `${userId}@example.com`;
  await database`
    insert into users (id, email, email_key, display_name, role) values (${userId}, ${email}, ${email}, 'A user', 'user')`;
  await database`
    insert into webhooks (id, user_id, url, events, secret) values (${id}, ${userId}, ${url}, '{*}', 'sealed')`;
  await database`
    insert into webhook_deliveries (id, webhook_id, type, user_id, data, occurred_at, next_attempt_at)
    select gen_random_uuid(), ${id}, 'webhook.test', ${userId}, '{}', now(), now() from generate_series(1, ${deliveryCount}::int)`;
  return id;
}

test("hanging endpoints with thousands of deliveries don't starve other endpoints, even if the hanging endpoints could fill all request slots", async () => {
  const reachedHosts: string[] = [];
  const send: SendOutgoing = async ({ url, timeoutMs }) => {
    if (url.hostname === "hangs.example") {
      await Bun.sleep(timeoutMs);
      throw new Error("The request timed out.");
    }
    reachedHosts.push(url.hostname);
    return { status: 204, headers: new Headers(), body: new Uint8Array(), durationMs: 1 };
  };
  const dispatcher = createDispatcher(send, 2);
  for (let n = 0; n < 2; n += 1) await insertWebhook("https://hangs.example/", 2_000);
  await dispatcher.check();
  await insertWebhook("https://works.example/", 1);
  for (const deadlineMs = Date.now() + 12_000; reachedHosts.length === 0 && Date.now() < deadlineMs; ) {
    await dispatcher.check();
    await dispatcher.renew();
    await Bun.sleep(100);
  }
  await dispatcher.stop(Date.now() + 5_000);
  expect(reachedHosts).toEqual(["works.example"]);
});

test("due deliveries do not wait for a long outbox to be expanded", async () => {
  let outboxRowsAtSend = -1;
  const dispatcher = createDispatcher(async () => {
    const [row] = await database<{ count: number }[]>`select count(*)::int as count from webhook_outbox`;
    outboxRowsAtSend = row?.count ?? 0;
    return { status: 204, headers: new Headers(), body: new Uint8Array(), durationMs: 1 };
  }, 10);
  await database`delete from webhooks`;
  await insertWebhook("https://works.example/", 1);
  await database`
    insert into webhook_outbox (conversations, seqs, types, messages, at)
    select array_fill(gen_random_uuid(), array[200]), array_fill(1::bigint, array[200]),
      array_fill('message.created'::text, array[200]), array_fill(gen_random_uuid(), array[200]), now()
    from generate_series(1, 4000)`;
  await dispatcher.check();
  for (const deadlineMs = Date.now() + 5_000; outboxRowsAtSend < 0 && Date.now() < deadlineMs; ) await Bun.sleep(20);
  expect(outboxRowsAtSend).toBeGreaterThan(0);
  expect(await database`select 1 from webhook_outbox limit 1`).toHaveLength(0);
  await dispatcher.stop(Date.now() + 5_000);
});
