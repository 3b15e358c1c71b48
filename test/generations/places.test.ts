import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Database, withTransaction } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import { createLifecycle } from "../../src/lib/lifecycle.ts";
import { createGenerationService, RUNNING_MAX } from "../../src/modules/generations/service.ts";
import { insertAnswer } from "../support/answer.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";

let database: Database;
beforeAll(async () => {
  ({ database } = await createTestDatabase());
});
afterAll(() => database.end({ timeout: 1 }));

/** One that has no models: no answer of these tests is written. */
function createService() {
  const lifecycle = createLifecycle();
  lifecycle.markReady();
  const instanceId = createId();
  const bus = { subscribe: () => {}, publish: () => {} };
  const budgets = { charge: async () => {} };
  const deps = { database, budgets, lifecycle, bus, instanceId, log: silentLog };
  const service = createGenerationService(deps as unknown as Parameters<typeof createGenerationService>[0]);
  return { service, lifecycle, instanceId };
}

const createAnswer = (more: object = {}) => ({
  generationId: createId(),
  messageId: createId(),
  conversationId: createId(),
  seq: 1,
  parentId: createId(),
  model: null,
  requestedBy: createId(),
  isClaimed: false,
  context: null,
  ...more,
});

test("a batch without a lease takes the free places, and does not stand in front of changes", async () => {
  const { service } = createService();
  // None of them is found, so they only take the time of their claims.
  for (let n = 0; n < RUNNING_MAX + 100; n += 1) service.start(createAnswer());
  expect(service.count()).toBe(RUNNING_MAX);
  expect(service.takeLease(1)).toBeNull();
  await withTransaction(database, (sql) => sql`select 1`);
  expect(service.count()).toBeGreaterThan(RUNNING_MAX / 2);
  for (let waits = 0; service.count() > 0 && waits < 500; waits += 1) await Bun.sleep(10);
  expect(service.count()).toBe(0);
  service.takeLease(1)?.end();
});

test("while an instance shuts down, no answer begins; one whose lease was on its way is released", async () => {
  const { service, lifecycle, instanceId } = createService();
  const conversationId = createId();
  await database`insert into conversations (id, kind, reply_mode) values (${conversationId}, 'group', 'never')`;
  expect(service.takeLease(1)).not.toBeNull();
  const leased = await insertAnswer(database, { conversationId, owner: instanceId });
  const pending = await insertAnswer(database, { conversationId, seq: 2, status: "pending" });
  lifecycle.markDraining();
  expect(service.takeLease(1)).toBeNull();
  service.start(createAnswer({ conversationId, generationId: pending.id }));
  expect(service.count()).toBe(0);
  await service.drain(Date.now());
  service.start(createAnswer({ conversationId, generationId: leased.id, isClaimed: true }));
  const list = () => database<{ id: string; status: string; is_free: boolean }[]>`
    select id, status, lease_until <= now() as is_free from generations where conversation_id = ${conversationId}
    order by message_seq`;
  for (let waits = 0; (await list())[0]?.status !== "pending" && waits < 100; waits += 1) await Bun.sleep(20);
  expect([...(await list())]).toEqual([
    { id: leased.id, status: "pending", is_free: true },
    { id: pending.id, status: "pending", is_free: false },
  ]);
});
