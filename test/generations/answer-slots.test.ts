import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Database, withTransaction } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import { createLifecycle } from "../../src/lib/lifecycle.ts";
import { CONTEXT_BATCH_MAX } from "../../src/modules/generations/live-answers.ts";
import {
  createGenerationService,
  createLiveAnswerRegistry,
  RUNNING_ANSWERS_MAX,
} from "../../src/modules/generations/service.ts";
import { createWaitingAnswerQueue, WAITING_ANSWERS_MAX } from "../../src/modules/generations/waiting-answers.ts";
import { insertAnswer } from "../support/answer.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";

let database: Database;
beforeAll(async () => {
  ({ database } = await createTestDatabase());
});
afterAll(() => database.end({ timeout: 1 }));

/** Creates a service without models, because these tests generate no answers. */
function createService() {
  const lifecycle = createLifecycle();
  lifecycle.markReady();
  const instanceId = createId();
  const bus = { subscribe: () => {}, publish: () => {} };
  const budgets = { charge: async () => {} };
  const liveAnswers = createLiveAnswerRegistry({ lifecycle, instanceId });
  const deps = { database, budgets, lifecycle, bus, instanceId, liveAnswers, log: silentLog };
  const service = createGenerationService(deps as unknown as Parameters<typeof createGenerationService>[0]);
  return { service, liveAnswers, lifecycle, instanceId };
}

const createAnswer = (fields: object = {}) => ({
  generationId: createId(),
  messageId: createId(),
  conversationId: createId(),
  seq: 1,
  parentId: createId(),
  model: null,
  requestedBy: createId(),
  reasoningEffort: null,
  replyFormat: null,
  isClaimed: false,
  context: null,
  ...fields,
});

test("answers without a lease are assigned to free slots without blocking other transactions", async () => {
  const { liveAnswers } = createService();
  // These answers don't exist in the database, so each releases its slot after trying to claim it.
  for (let n = 0; n < RUNNING_ANSWERS_MAX + 100; n += 1) liveAnswers.handOver(createAnswer());
  expect(liveAnswers.count()).toBe(RUNNING_ANSWERS_MAX);
  expect(liveAnswers.acquireLease(1)).toBeNull();
  await withTransaction(database, (sql) => sql`select 1`);
  expect(liveAnswers.count()).toBeGreaterThan(RUNNING_ANSWERS_MAX / 2);
  for (let waits = 0; liveAnswers.count() > 0 && waits < 500; waits += 1) await Bun.sleep(10);
  expect(liveAnswers.count()).toBe(0);
  liveAnswers.acquireLease(1)?.release();
});

test("a small batch reads its answers' contexts within a shared byte limit, and a large batch reads none", () => {
  const { liveAnswers } = createService();
  const singleLease = liveAnswers.acquireLease(1);
  const fullBatchLease = liveAnswers.acquireLease(CONTEXT_BATCH_MAX);
  const oversizedBatchLease = liveAnswers.acquireLease(CONTEXT_BATCH_MAX + 1);
  expect(CONTEXT_BATCH_MAX).toBe(32);
  expect(fullBatchLease?.context?.bytesMax).toBe((singleLease?.context?.bytesMax ?? 0) / CONTEXT_BATCH_MAX);
  expect(oversizedBatchLease).toMatchObject({ context: null });
  for (const lease of [singleLease, fullBatchLease, oversizedBatchLease]) lease?.release();
});

test("no answer starts during a shutdown, and the lease of an answer that is handed over late is released", async () => {
  const { service, liveAnswers, lifecycle, instanceId } = createService();
  const conversationId = createId();
  await database`insert into conversations (id, kind, reply_mode) values (${conversationId}, 'group', 'never')`;
  expect(liveAnswers.acquireLease(1)).not.toBeNull();
  const leasedAnswer = await insertAnswer(database, { conversationId, owner: instanceId });
  const pendingAnswer = await insertAnswer(database, { conversationId, seq: 2, status: "pending" });
  lifecycle.markDraining();
  expect(liveAnswers.acquireLease(1)).toBeNull();
  liveAnswers.handOver(createAnswer({ conversationId, generationId: pendingAnswer.id }));
  expect(liveAnswers.count()).toBe(0);
  await service.drain(Date.now());
  liveAnswers.handOver(createAnswer({ conversationId, generationId: leasedAnswer.id, isClaimed: true }));
  const listGenerations = () => database<{ id: string; status: string; is_lease_expired: boolean }[]>`
    select id, status, lease_until <= now() as is_lease_expired from generations where conversation_id = ${conversationId}
    order by message_seq`;
  for (let waits = 0; (await listGenerations())[0]?.status !== "pending" && waits < 100; waits += 1)
    await Bun.sleep(20);
  expect([...(await listGenerations())]).toEqual([
    { id: leasedAnswer.id, status: "pending", is_lease_expired: true },
    { id: pendingAnswer.id, status: "pending", is_lease_expired: false },
  ]);
});

test("answers that are handed over before or after the handler is registered start exactly once", () => {
  const lifecycle = createLifecycle();
  lifecycle.markReady();
  const liveAnswers = createLiveAnswerRegistry({ lifecycle, instanceId: createId() });
  const [firstAnswer, secondAnswer] = [createAnswer(), createAnswer()];
  liveAnswers.handOver(firstAnswer);
  const startedAnswers: object[] = [];
  liveAnswers.onHandOver((answer) => startedAnswers.push(answer));
  liveAnswers.handOver(secondAnswer);
  expect(startedAnswers).toEqual([firstAnswer, secondAnswer]);
});

test("an answer that waits for a slot starts as soon as a slot is free, without waiting for the periodic sweep", async () => {
  const { liveAnswers, instanceId } = createService();
  const conversationId = createId();
  await database`insert into conversations (id, kind, reply_mode) values (${conversationId}, 'group', 'never')`;
  const pendingAnswer = await insertAnswer(database, { conversationId, status: "pending" });
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  const otherClaims = Array.from({ length: RUNNING_ANSWERS_MAX - 1 }, () => liveAnswers.runClaim(() => released));
  // This answer doesn't exist in the database, so it soon releases its slot.
  liveAnswers.handOver(createAnswer());
  expect(liveAnswers.hasFreeSlots(1)).toBeFalse();
  liveAnswers.handOver(createAnswer({ conversationId, generationId: pendingAnswer.id }));
  const findOwner = async () => {
    const [row] = await database<{ owner: string | null }[]>`
      select owner from generations where conversation_id = ${conversationId} and id = ${pendingAnswer.id}`;
    return row?.owner;
  };
  for (let waits = 0; (await findOwner()) !== instanceId && waits < 100; waits += 1) await Bun.sleep(10);
  expect(await findOwner()).toBe(instanceId);
  release();
  await Promise.all(otherClaims);
});

test("a limited number of answers can wait, and they start in order as slots become free", () => {
  let freeSlots = 0;
  const startedIds: string[] = [];
  const waitingAnswers = createWaitingAnswerQueue({
    hasFreeSlots: () => freeSlots > 0,
    startClaim({ id }) {
      freeSlots -= 1;
      startedIds.push(id);
    },
  });
  for (let n = 0; n <= WAITING_ANSWERS_MAX; n += 1) waitingAnswers.add({ conversationId: "any", id: `${n}` });
  waitingAnswers.startNext();
  expect(startedIds).toEqual([]);
  freeSlots = 2;
  waitingAnswers.startNext();
  expect(startedIds).toEqual(["0", "1"]);
  freeSlots = Number.POSITIVE_INFINITY;
  waitingAnswers.startNext();
  expect(startedIds.length).toBe(WAITING_ANSWERS_MAX);
  expect(startedIds.at(-1)).toBe(`${WAITING_ANSWERS_MAX - 1}`);
});
