import { afterAll, beforeAll, expect, test } from "bun:test";
import { USAGE_TOKENS_MAX } from "../../src/ai/usage.ts";
import type { Database } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import { createMetrics } from "../../src/lib/metrics.ts";
import type { PriceTable } from "../../src/lib/prices.ts";
import { Problem } from "../../src/lib/problem.ts";
import { createBudgetService, WINDOW_RETENTION_DAYS } from "../../src/modules/budgets/service.ts";
import { createFinisher } from "../../src/modules/generations/finisher.ts";
import type { FinalState } from "../../src/modules/generations/queries.ts";
import { insertAnswer } from "../support/answer.ts";
import { createDatabaseWithLostResponses } from "../support/database-with-lost-responses.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";

const MODEL = "compatible/own";
/** Tokens reserved for one answer: 500 for overhead, 100 for the prompt and 400 for the answer. */
const RESERVED_TOKENS = 1_000;

let database: Database;
beforeAll(async () => {
  ({ database } = await createTestDatabase(20));
});
afterAll(() => database.end({ timeout: 1 }));

const createService = (
  tokensPerDay?: number,
  targetDatabase = database,
  prices: PriceTable = { [MODEL]: { input: 1, output: 2 } },
) =>
  createBudgetService({
    database: targetDatabase,
    config: { BUDGET_ANSWER_TOKENS: 400, BUDGET_USER_TOKENS_PER_DAY: tokensPerDay },
    prices,
    models: [MODEL, "offline/documents"],
    defaultModel: MODEL,
    getPromptTokensMax: () => 100_000,
    metrics: createMetrics({ version: "test", commit: "test" }),
    log: silentLog,
    instanceId: createId(),
  });
const neverAborted = new AbortController().signal;

async function createUser(): Promise<string> {
  const id = createId();
  const email = `${id}@example.com`;
  await database`
    insert into users (id, email, email_key, display_name, password_hash) values (${id}, ${email}, ${email}, 'X', 'x')`;
  return id;
}

const createRequest = (id: string) => ({
  payer: { userId: id, keyId: null },
  model: MODEL,
  countPromptTokens: () => 100,
  outputTokensMax: null,
});

const findDayWindow = async (userId: string) => {
  const [row] = await database<{ spent: number; reserved: number; usd: number }[]>`
    select spent_tokens as spent, reserved_tokens as reserved, spent_usd::float as usd from budget_windows
    where scope_id = ${userId} and period = 'day'`;
  return row;
};

const noCharge = { usage: null, costUsd: null };

test("concurrent completions share a budget, and unused reservations are released", async () => {
  const budgets = createService(10 * RESERVED_TOKENS);
  const userId = await createUser();
  const outcomes = await Promise.allSettled(Array.from({ length: 30 }, () => budgets.reserve(createRequest(userId))));
  const reservations = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []));
  const rejections = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason as Problem] : []));
  expect(reservations).toHaveLength(10);
  expect(reservations[0]?.outputTokensMax).toBe(400);
  expect(rejections.every((problem) => problem instanceof Problem && problem.code === "budget_exceeded")).toBe(true);
  expect(await findDayWindow(userId)).toMatchObject({ spent: 0, reserved: 10 * RESERVED_TOKENS });
  for (const [index, { id }] of reservations.entries())
    await (index % 2 === 0
      ? budgets.settle({ id }, userId, { usage: { input_tokens: 60, output_tokens: 40 }, costUsd: 0.5 })
      : budgets.settle({ id }, null, noCharge));
  expect(await findDayWindow(userId)).toEqual({ spent: 500, reserved: 0, usd: 2.5 });
  await budgets.reserve(createRequest(userId));
});

test("a lower answer limit reserves fewer tokens, and a higher one is reduced to the reserved tokens", async () => {
  const budgets = createService(100_000);
  const userId = await createUser();
  expect((await budgets.reserve({ ...createRequest(userId), outputTokensMax: 10 })).outputTokensMax).toBe(10);
  expect((await findDayWindow(userId))?.reserved).toBe(610);
  expect((await budgets.reserve({ ...createRequest(userId), outputTokensMax: 9_999 })).outputTokensMax).toBe(400);
});

test("nothing is reserved without limits or for the offline model", async () => {
  const userId = await createUser();
  const countPromptTokens = () => {
    throw new Error("The prompt tokens must not be counted.");
  };
  const unlimitedRequest = { ...createRequest(userId), countPromptTokens, outputTokensMax: 9_999 };
  expect((await createService().reserve(unlimitedRequest)).outputTokensMax).toBe(9_999);
  await createService(401).reserve({ ...createRequest(userId), countPromptTokens, model: "offline/documents" });
  expect(await findDayWindow(userId)).toBeUndefined();
});

test("the reservations of a dead instance expire, but not those of a live one", async () => {
  const [deadInstance, liveInstance] = [createService(100_000), createService(100_000)];
  const userId = await createUser();
  await deadInstance.reserve(createRequest(userId));
  const { id } = await liveInstance.reserve(createRequest(userId));
  await database`update budget_reservations set lease_until = now() - interval '1 s'`;
  await liveInstance.renewLeases();
  await liveInstance.releaseExpired(neverAborted);
  expect(await findDayWindow(userId)).toMatchObject({ spent: 0, reserved: RESERVED_TOKENS });
  await liveInstance.settle({ id }, null, noCharge);
  expect(await findDayWindow(userId)).toMatchObject({ spent: 0, reserved: 0 });
});

test("a generation's reservation is released when it is finished or deleted", async () => {
  const budgets = createService(100_000);
  const userId = await createUser();
  const conversationId = createId();
  await database`insert into conversations (id, kind, reply_mode) values (${conversationId}, 'direct', 'never')`;
  const generations = await Promise.all(
    (["running", "finished"] as const).map(async (status, index) => {
      const answer = { conversationId, seq: index + 1, requestedBy: userId, status };
      return (await insertAnswer(database, answer)).id;
    }),
  );
  for (const generationId of [...generations, createId()])
    await budgets.reserveAnswer(database, {
      generationId,
      userId,
      keyId: null,
      conversationId,
      contentBytes: 300,
      model: MODEL,
    });
  expect((await findDayWindow(userId))?.reserved).toBe(3 * RESERVED_TOKENS);
  await budgets.releaseExpired(neverAborted);
  expect((await findDayWindow(userId))?.reserved).toBe(RESERVED_TOKENS);
  await database`delete from conversations where id = ${conversationId}`;
  await Promise.all([budgets.releaseExpired(neverAborted), createService(1_000).releaseExpired(neverAborted)]);
  expect(await findDayWindow(userId)).toMatchObject({ reserved: 0, spent: 0 });
});

test("tokens reserved yesterday are charged to yesterday's budget", async () => {
  const budgets = createService(100_000);
  const userId = await createUser();
  const { id } = await budgets.reserve(createRequest(userId));
  await database`update budget_windows set starts_on = starts_on - 1 where scope_id = ${userId} and period = 'day'`;
  await database`update budget_reservations set starts_on = starts_on - 1 where id = ${id}`;
  await budgets.settle({ id }, userId, { usage: { input_tokens: 1, output_tokens: 2 }, costUsd: null });
  const days = await database`
    select spent_tokens, reserved_tokens from budget_windows where scope_id = ${userId} and period = 'day'`;
  expect([...days]).toEqual([{ spent_tokens: 3, reserved_tokens: 0 }]);
});

test("old budget windows are deleted", async () => {
  const budgets = createService(100_000);
  const [recentUser, oldUser] = [await createUser(), await createUser()];
  for (const userId of [recentUser, oldUser]) {
    const { id } = await budgets.reserve(createRequest(userId));
    await budgets.settle({ id }, null, noCharge);
  }
  const backdateWindows = (days: number) =>
    database`update budget_windows set starts_on = starts_on - ${days}::int where scope_id = ${oldUser}`;
  const countWindows = async () => (await database`select 1 from budget_windows where scope_id = ${oldUser}`).length;
  await backdateWindows(WINDOW_RETENTION_DAYS - 40);
  expect(await budgets.deleteOldUsage()).toBe(0);
  await backdateWindows(41);
  expect(await budgets.deleteOldUsage()).toBe(2);
  expect(await budgets.deleteOldUsage()).toBe(0);
  expect(await countWindows()).toBe(0);
  expect(await findDayWindow(recentUser)).toBeDefined();
});

test("a repeated charge with the same id is counted once", async () => {
  const budgets = createService(100_000);
  const userId = await createUser();
  const charge = { usage: { input_tokens: 20, output_tokens: 30 }, costUsd: 0.5 };
  const { id } = await budgets.reserve(createRequest(userId));
  for (let attempts = 0; attempts < 2; attempts += 1) await budgets.settle({ id }, userId, charge);
  expect(await findDayWindow(userId)).toEqual({ spent: 50, reserved: 0, usd: 0.5 });
  const otherId = createId();
  await Promise.all([1, 2, 3].map(() => createService().settle({ id: otherId }, userId, charge)));
  await budgets.charge(userId, charge, { id: otherId });
  await budgets.charge(userId, charge, { id: createId(), shouldCharge: async () => false });
  expect(await findDayWindow(userId)).toEqual({ spent: 100, reserved: 0, usd: 1 });

  await database`update budget_charges set charged_at = charged_at - interval '25 hours' where id = ${id}`;
  await budgets.deleteOldUsage();
  const remainingCharges = await database<
    { id: string }[]
  >`select id from budget_charges where id in (${id}, ${otherId})`;
  expect(remainingCharges.map((row) => row.id)).toEqual([otherId]);
});

test("a charge whose commit response was lost is counted once", async () => {
  const lossyDatabase = await createDatabaseWithLostResponses();
  const budgets = createService(undefined, lossyDatabase.database);
  const userId = createId();
  const responseLost = lossyDatabase.loseNextResponse("settle_charges(", "SELECT 1");
  await budgets.charge(userId, { usage: { input_tokens: 20, output_tokens: 30 }, costUsd: null });
  await responseLost;
  const [row] = await lossyDatabase.directDatabase<{ spent: number }[]>`
    select spent_tokens as spent from budget_windows where scope_id = ${userId} and period = 'day'`;
  expect(row?.spent).toBe(50);
  await lossyDatabase.end();
});

test("an answer with the maximum token count completes, and all its tokens are charged", async () => {
  const userId = await createUser();
  const conversationId = createId();
  await database`insert into conversations (id, kind, reply_mode, last_seq) values (${conversationId}, 'direct', 'always', 1)`;
  const generation = await insertAnswer(database, { conversationId, requestedBy: userId });
  const finisher = createFinisher({ database });
  const final: FinalState = {
    content: "Done.",
    status: "complete",
    finishReason: "stop",
    model: MODEL,
    models: [MODEL],
    usage: {
      input_tokens: USAGE_TOKENS_MAX,
      output_tokens: USAGE_TOKENS_MAX,
      cached_input_tokens: 0,
      reasoning_tokens: 0,
    },
    costUsd: 0.5,
    error: null,
  };
  expect(await finisher.finish({ generation, attempt: 1, final })).toMatchObject({ outcome: "finished" });
  expect(await findDayWindow(userId)).toMatchObject({ spent: 2 * USAGE_TOKENS_MAX, usd: 0.5 });
  await finisher.close();
});

test("a reservation counts the whole prompt at the cache-write price if that is higher", async () => {
  const price = { input: 1, output: 2, cached_input: 0.1, cache_write: 1.25 };
  const budgets = createService(1_000_000, database, { [MODEL]: price });
  expect(budgets.rules?.models[MODEL]).toEqual([1.25, 2, 100_000]);
  const userId = await createUser();
  await budgets.reserve(createRequest(userId));
  const [row] = await database<{ usd: number }[]>`
    select reserved_usd::float as usd from budget_windows where scope_id = ${userId} and period = 'day'`;
  expect(row?.usd).toBeCloseTo((600 * 1.25 + 400 * 2) / 1_000_000, 9);
});
