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
import { silentLog } from "../support/log.ts";
import { createLossyDatabase } from "../support/lossy-database.ts";
import { createTestDatabase } from "../support/postgres.ts";

const MODEL = "compatible/own";
/** 500 overhead, 100 for the 300 bytes of the prompt, 400 for the answer. */
const RESERVED_TOKENS = 1_000;

let database: Database;
beforeAll(async () => {
  ({ database } = await createTestDatabase(20));
});
afterAll(() => database.end({ timeout: 1 }));

const createService = (
  tokensPerDay?: number,
  on = database,
  prices: PriceTable = { [MODEL]: { input: 1, output: 2 } },
) =>
  createBudgetService({
    database: on,
    config: { BUDGET_ANSWER_TOKENS: 400, BUDGET_USER_TOKENS_PER_DAY: tokensPerDay },
    prices,
    models: [MODEL, "offline/documents"],
    defaultModel: MODEL,
    promptTokensMaxOf: () => 100_000,
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

const request = (id: string) => ({
  payer: { userId: id, keyId: null },
  model: MODEL,
  countPromptTokens: () => 100,
  outputTokensMax: null,
});

const findDay = async (userId: string) => {
  const [row] = await database<{ spent: number; reserved: number; usd: number }[]>`
    select spent_tokens as spent, reserved_tokens as reserved, spent_usd::float as usd from budget_windows
    where scope_id = ${userId} and period = 'day'`;
  return row;
};

/** An answer without usage. */
const nothing = { usage: null, costUsd: null };

test("concurrent completions share a budget, and unused reservations are released", async () => {
  const budgets = createService(10 * RESERVED_TOKENS);
  const user = await createUser();
  const outcomes = await Promise.allSettled(Array.from({ length: 30 }, () => budgets.reserve(request(user))));
  const granted = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []));
  const refused = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason as Problem] : []));
  expect(granted).toHaveLength(10);
  expect(granted[0]?.outputTokensMax).toBe(400);
  expect(refused.every((problem) => problem instanceof Problem && problem.code === "budget_exceeded")).toBe(true);
  expect(await findDay(user)).toMatchObject({ spent: 0, reserved: 10 * RESERVED_TOKENS });
  for (const [index, { id }] of granted.entries())
    await (index % 2 === 0
      ? budgets.settle({ id }, user, { usage: { input_tokens: 60, output_tokens: 40 }, costUsd: 0.5 })
      : budgets.settle({ id }, null, nothing));
  expect(await findDay(user)).toEqual({ spent: 500, reserved: 0, usd: 2.5 });
  await budgets.reserve(request(user));
});

test("a shorter answer reserves less; a longer one is limited to what may be reserved", async () => {
  const budgets = createService(100_000);
  const user = await createUser();
  expect((await budgets.reserve({ ...request(user), outputTokensMax: 10 })).outputTokensMax).toBe(10);
  expect((await findDay(user))?.reserved).toBe(610);
  expect((await budgets.reserve({ ...request(user), outputTokensMax: 9_999 })).outputTokensMax).toBe(400);
});

test("reserves nothing without limits, or for the offline model", async () => {
  const user = await createUser();
  const countPromptTokens = () => {
    throw new Error("The prompt tokens must not be counted.");
  };
  const unlimited = { ...request(user), countPromptTokens, outputTokensMax: 9_999 };
  expect((await createService().reserve(unlimited)).outputTokensMax).toBe(9_999);
  await createService(401).reserve({ ...request(user), countPromptTokens, model: "offline/documents" });
  expect(await findDay(user)).toBeUndefined();
});

test("a dead instance's reservations expire, a live one's don't", async () => {
  const [dead, living] = [createService(100_000), createService(100_000)];
  const user = await createUser();
  await dead.reserve(request(user));
  const { id } = await living.reserve(request(user));
  await database`update budget_reservations set lease_until = now() - interval '1 s'`;
  await living.renew();
  await living.free(neverAborted);
  expect(await findDay(user)).toMatchObject({ spent: 0, reserved: RESERVED_TOKENS });
  await living.settle({ id }, null, nothing);
  expect(await findDay(user)).toMatchObject({ spent: 0, reserved: 0 });
});

test("a generation's reservation is released when it is deleted or has ended, and not before", async () => {
  const budgets = createService(100_000);
  const user = await createUser();
  const conversation = createId();
  await database`insert into conversations (id, kind, reply_mode) values (${conversation}, 'direct', 'never')`;
  const generations = await Promise.all(
    (["running", "finished"] as const).map(async (status, index) => {
      const answer = { conversationId: conversation, seq: index + 1, requestedBy: user, status };
      return (await insertAnswer(database, answer)).id;
    }),
  );
  for (const generationId of [...generations, createId()])
    await budgets.reserveAnswer(database, {
      generationId,
      userId: user,
      keyId: null,
      conversationId: conversation,
      contentBytes: 300,
      model: MODEL,
    });
  expect((await findDay(user))?.reserved).toBe(3 * RESERVED_TOKENS);
  await budgets.free(neverAborted);
  expect((await findDay(user))?.reserved).toBe(RESERVED_TOKENS);
  await database`delete from conversations where id = ${conversation}`;
  await Promise.all([budgets.free(neverAborted), createService(1_000).free(neverAborted)]);
  expect(await findDay(user)).toMatchObject({ reserved: 0, spent: 0 });
});

test("what was reserved yesterday is charged to yesterday", async () => {
  const budgets = createService(100_000);
  const user = await createUser();
  const { id } = await budgets.reserve(request(user));
  await database`update budget_windows set starts_on = starts_on - 1 where scope_id = ${user} and period = 'day'`;
  await database`update budget_reservations set starts_on = starts_on - 1 where id = ${id}`;
  await budgets.settle({ id }, user, { usage: { input_tokens: 1, output_tokens: 2 }, costUsd: null });
  const days = await database`
    select spent_tokens, reserved_tokens from budget_windows where scope_id = ${user} and period = 'day'`;
  expect([...days]).toEqual([{ spent_tokens: 3, reserved_tokens: 0 }]);
});

test("deletes old spending", async () => {
  const budgets = createService(100_000);
  const [now, before] = [await createUser(), await createUser()];
  for (const user of [now, before]) {
    const { id } = await budgets.reserve(request(user));
    await budgets.settle({ id }, null, nothing);
  }
  const age = (days: number) =>
    database`update budget_windows set starts_on = starts_on - ${days}::int where scope_id = ${before}`;
  const count = async () => (await database`select 1 from budget_windows where scope_id = ${before}`).length;
  await age(WINDOW_RETENTION_DAYS - 40);
  expect(await budgets.deleteOld()).toBe(0);
  await age(41);
  expect(await budgets.deleteOld()).toBe(2);
  expect(await budgets.deleteOld()).toBe(0);
  expect(await count()).toBe(0);
  expect(await findDay(now)).toBeDefined();
});

test("a repeated charge with the same id counts once: with a reservation, without one, and concurrently", async () => {
  const budgets = createService(100_000);
  const user = await createUser();
  const used = { usage: { input_tokens: 20, output_tokens: 30 }, costUsd: 0.5 };
  const { id } = await budgets.reserve(request(user));
  for (let attempts = 0; attempts < 2; attempts += 1) await budgets.settle({ id }, user, used);
  expect(await findDay(user)).toEqual({ spent: 50, reserved: 0, usd: 0.5 });
  const other = createId();
  await Promise.all([1, 2, 3].map(() => createService().settle({ id: other }, user, used)));
  await budgets.charge(user, used, { id: other });
  await budgets.charge(user, used, { id: createId(), isDue: async () => false });
  expect(await findDay(user)).toEqual({ spent: 100, reserved: 0, usd: 1 });

  await database`update budget_charges set charged_at = charged_at - interval '25 hours' where id = ${id}`;
  await budgets.deleteOld();
  const kept = await database<{ id: string }[]>`select id from budget_charges where id in (${id}, ${other})`;
  expect(kept.map((row) => row.id)).toEqual([other]);
});

test("a charge whose commit response was lost is made once", async () => {
  const lossy = await createLossyDatabase();
  const budgets = createService(undefined, lossy.database);
  const user = createId();
  const isLost = lossy.lose("settle_charges(", "SELECT 1");
  await budgets.charge(user, { usage: { input_tokens: 20, output_tokens: 30 }, costUsd: null });
  await isLost;
  const [row] = await lossy.direct<{ spent: number }[]>`
    select spent_tokens as spent from budget_windows where scope_id = ${user} and period = 'day'`;
  expect(row?.spent).toBe(50);
  await lossy.end();
});

test("an answer with the maximum token count completes, and all tokens are charged", async () => {
  const user = await createUser();
  const conversationId = createId();
  await database`insert into conversations (id, kind, reply_mode, last_seq) values (${conversationId}, 'direct', 'always', 1)`;
  const generation = await insertAnswer(database, { conversationId, requestedBy: user });
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
  expect(await findDay(user)).toMatchObject({ spent: 2 * USAGE_TOKENS_MAX, usd: 0.5 });
  await finisher.close();
});

test("a reservation counts the whole prompt at the cache-write price if that is higher", async () => {
  const price = { input: 1, output: 2, cached_input: 0.1, cache_write: 1.25 };
  const budgets = createService(1_000_000, database, { [MODEL]: price });
  expect(budgets.rules?.models[MODEL]).toEqual([1.25, 2, 100_000]);
  const user = await createUser();
  await budgets.reserve(request(user));
  const [row] = await database<{ usd: number }[]>`
    select reserved_usd::float as usd from budget_windows where scope_id = ${user} and period = 'day'`;
  expect(row?.usd).toBeCloseTo((600 * 1.25 + 400 * 2) / 1_000_000, 9);
});
