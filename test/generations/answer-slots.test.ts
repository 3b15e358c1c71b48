import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Database, withTransaction } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import { createLifecycle } from "../../src/lib/lifecycle.ts";
import { CONTEXT_BATCH_MAX } from "../../src/modules/generations/live-answers.ts";
import { createGenerationService, createLiveAnswers, RUNNING_MAX } from "../../src/modules/generations/service.ts";
import { createWaitingAnswers, WAITING_MAX } from "../../src/modules/generations/waiting-answers.ts";
import { insertAnswer } from "../support/answer.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";

let database: Database;
beforeAll(async () => {
  ({ database } = await createTestDatabase());
});
afterAll(() => database.end({ timeout: 1 }));

/** A service without models: these tests generate no answers. */
function createService() {
  const lifecycle = createLifecycle();
  lifecycle.markReady();
  const instanceId = createId();
  const bus = { subscribe: () => {}, publish: () => {} };
  const budgets = { charge: async () => {} };
  const liveAnswers = createLiveAnswers({ lifecycle, instanceId });
  const deps = { database, budgets, lifecycle, bus, instanceId, liveAnswers, log: silentLog };
  const service = createGenerationService(deps as unknown as Parameters<typeof createGenerationService>[0]);
  return { service, liveAnswers, lifecycle, instanceId };
}

const createAnswer = (more: object = {}) => ({
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
  ...more,
});

test("a batch without a lease takes the free slots, and doesn't block other changes", async () => {
  const { liveAnswers } = createService();
  // None of them exists, so they only take the time of their claims.
  for (let n = 0; n < RUNNING_MAX + 100; n += 1) liveAnswers.handOver(createAnswer());
  expect(liveAnswers.count()).toBe(RUNNING_MAX);
  expect(liveAnswers.acquireLease(1)).toBeNull();
  await withTransaction(database, (sql) => sql`select 1`);
  expect(liveAnswers.count()).toBeGreaterThan(RUNNING_MAX / 2);
  for (let waits = 0; liveAnswers.count() > 0 && waits < 500; waits += 1) await Bun.sleep(10);
  expect(liveAnswers.count()).toBe(0);
  liveAnswers.acquireLease(1)?.release();
});

test("contexts are read with the commit of a small batch of answers, which share a byte limit; a larger batch reads none", () => {
  const { liveAnswers } = createService();
  const one = liveAnswers.acquireLease(1);
  const many = liveAnswers.acquireLease(CONTEXT_BATCH_MAX);
  const tooMany = liveAnswers.acquireLease(CONTEXT_BATCH_MAX + 1);
  expect(CONTEXT_BATCH_MAX).toBe(32);
  expect(many?.context?.bytesMax).toBe((one?.context?.bytesMax ?? 0) / CONTEXT_BATCH_MAX);
  expect(tooMany).toMatchObject({ context: null });
  for (const lease of [one, many, tooMany]) lease?.release();
});

test("during a shutdown, no answer starts; one whose lease arrives late is released", async () => {
  const { service, liveAnswers, lifecycle, instanceId } = createService();
  const conversationId = createId();
  await database`insert into conversations (id, kind, reply_mode) values (${conversationId}, 'group', 'never')`;
  expect(liveAnswers.acquireLease(1)).not.toBeNull();
  const leased = await insertAnswer(database, { conversationId, owner: instanceId });
  const pending = await insertAnswer(database, { conversationId, seq: 2, status: "pending" });
  lifecycle.markDraining();
  expect(liveAnswers.acquireLease(1)).toBeNull();
  liveAnswers.handOver(createAnswer({ conversationId, generationId: pending.id }));
  expect(liveAnswers.count()).toBe(0);
  await service.drain(Date.now());
  liveAnswers.handOver(createAnswer({ conversationId, generationId: leased.id, isClaimed: true }));
  const list = () => database<{ id: string; status: string; is_free: boolean }[]>`
    select id, status, lease_until <= now() as is_free from generations where conversation_id = ${conversationId}
    order by message_seq`;
  for (let waits = 0; (await list())[0]?.status !== "pending" && waits < 100; waits += 1) await Bun.sleep(20);
  expect([...(await list())]).toEqual([
    { id: leased.id, status: "pending", is_free: true },
    { id: pending.id, status: "pending", is_free: false },
  ]);
});

test("an answer handed over before the service is built is started by it, once", () => {
  const lifecycle = createLifecycle();
  lifecycle.markReady();
  const liveAnswers = createLiveAnswers({ lifecycle, instanceId: createId() });
  const [early, late] = [createAnswer(), createAnswer()];
  liveAnswers.handOver(early);
  const taken: object[] = [];
  liveAnswers.onHandOver((answer) => taken.push(answer));
  liveAnswers.handOver(late);
  expect(taken).toEqual([early, late]);
});

test("an answer without a free slot starts as soon as one is free, without the sweep", async () => {
  const { liveAnswers, instanceId } = createService();
  const conversationId = createId();
  await database`insert into conversations (id, kind, reply_mode) values (${conversationId}, 'group', 'never')`;
  const pending = await insertAnswer(database, { conversationId, status: "pending" });
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  const others = Array.from({ length: RUNNING_MAX - 1 }, () => liveAnswers.claim(() => ended));
  // It doesn't exist, so its slot is free again immediately.
  liveAnswers.handOver(createAnswer());
  expect(liveAnswers.hasRoom(1)).toBeFalse();
  liveAnswers.handOver(createAnswer({ conversationId, generationId: pending.id }));
  const findOwner = async () => {
    const [row] = await database<{ owner: string | null }[]>`
      select owner from generations where conversation_id = ${conversationId} and id = ${pending.id}`;
    return row?.owner;
  };
  for (let waits = 0; (await findOwner()) !== instanceId && waits < 100; waits += 1) await Bun.sleep(10);
  expect(await findOwner()).toBe(instanceId);
  end();
  await Promise.all(others);
});

test("waiting answers start in order, as slots become free; beyond a limit they are left to the sweep", () => {
  let room = 0;
  const begun: string[] = [];
  const waiting = createWaitingAnswers({
    hasRoom: () => room > 0,
    begin({ id }) {
      room -= 1;
      begun.push(id);
    },
  });
  for (let n = 0; n <= WAITING_MAX; n += 1) waiting.add({ conversationId: "any", id: `${n}` });
  waiting.fill();
  expect(begun).toEqual([]);
  room = 2;
  waiting.fill();
  expect(begun).toEqual(["0", "1"]);
  room = Number.POSITIVE_INFINITY;
  waiting.fill();
  expect(begun.length).toBe(WAITING_MAX);
  expect(begun.at(-1)).toBe(`${WAITING_MAX - 1}`);
});
