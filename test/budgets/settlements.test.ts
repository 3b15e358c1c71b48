import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Database } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import { createMetrics } from "../../src/lib/metrics.ts";
import { createBudgetService } from "../../src/modules/budgets/service.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";

const MODEL = "compatible/own";
/** Tokens reserved for one answer: 500 for overhead, 100 for the prompt and 400 for the answer. */
const RESERVED_TOKENS = 1_000;
const charge = { usage: { input_tokens: 20, output_tokens: 30 }, costUsd: 0.5 };
const CHARGED_TOKENS = 50;

let database: Database;
beforeAll(async () => {
  ({ database } = await createTestDatabase(20));
});
afterAll(() => database.end({ timeout: 1 }));

const createService = () =>
  createBudgetService({
    database,
    config: {
      BUDGET_ANSWER_TOKENS: 400,
      BUDGET_USER_TOKENS_PER_DAY: 10_000_000,
      BUDGET_KEY_TOKENS_PER_DAY: 10_000_000,
    },
    prices: { [MODEL]: { input: 1, output: 2 } },
    models: [MODEL],
    defaultModel: MODEL,
    getPromptTokensMax: () => 100_000,
    metrics: createMetrics({ version: "test", commit: "test" }),
    log: silentLog,
    instanceId: createId(),
  });
type Service = ReturnType<typeof createService>;

const reserveTokens = (budgets: Service, userId: string, keyId: string | null = null) =>
  budgets.reserve({ payer: { userId, keyId }, model: MODEL, countPromptTokens: () => 100, outputTokensMax: null });

const findDayWindow = async (id: string) => {
  const [row] = await database<{ spent: number; reserved: number; usd: number }[]>`
    select spent_tokens as spent, reserved_tokens as reserved, spent_usd::float as usd from budget_windows
    where scope_id = ${id} and period = 'day'`;
  return row;
};
const countTransactions = async (ids: readonly string[]) => {
  const [row] = await database<{ count: number }[]>`
    select count(distinct charged_at)::int as count from budget_charges where id = any (${ids}::uuid[])`;
  return row?.count ?? 0;
};

test("concurrent charges share transactions, and each is counted once", async () => {
  const budgets = createService();
  const userIds = Array.from({ length: 20 }, () => createId());
  const charges = userIds.flatMap((userId) => Array.from({ length: 10 }, () => ({ id: createId(), userId })));
  // Each charge is repeated, as if its commit response had been lost.
  await Promise.all([...charges, ...charges].map(({ id, userId }) => budgets.settle({ id }, userId, charge)));
  for (const userId of userIds)
    expect(await findDayWindow(userId)).toEqual({ spent: 10 * CHARGED_TOKENS, reserved: 0, usd: 5 });
  expect(await countTransactions(charges.map(({ id }) => id))).toBeLessThan(20);
});

test("a reservation used by several charges is released once, and every charge is counted", async () => {
  const budgets = createService();
  const userId = createId();
  const { id } = await reserveTokens(budgets, userId);
  const otherReservation = await reserveTokens(budgets, userId);
  const settlements = [{ id: createId(), reservationId: id }, { id: createId(), reservationId: id }, { id }];
  // The first charge is committed alone, and the ones queued behind it are committed together.
  await Promise.all([
    budgets.settle({ id: createId() }, createId(), charge),
    ...settlements.map((settlement) => budgets.settle(settlement, userId, charge)),
  ]);
  expect(await findDayWindow(userId)).toMatchObject({ spent: 3 * CHARGED_TOKENS, reserved: RESERVED_TOKENS });
  await budgets.settle({ id: otherReservation.id }, null, { usage: null, costUsd: null });
  expect(await findDayWindow(userId)).toMatchObject({ spent: 3 * CHARGED_TOKENS, reserved: 0 });
});

test("a locked payer doesn't delay other charges, and is charged once it is unlocked", async () => {
  const budgets = createService();
  const [lockedUserId, otherUserId] = [createId(), createId()];
  for (const userId of [lockedUserId, otherUserId]) await budgets.settle({ id: createId() }, userId, charge);
  let pendingCharges: Promise<unknown>[] = [];
  await database.begin(async (sql) => {
    await sql`select 1 from budget_windows where scope_id = ${lockedUserId} for update`;
    const wasCharged = pendingCharges.map(() => false);
    pendingCharges = Array.from({ length: 5 }, (_, n) =>
      budgets.settle({ id: createId() }, lockedUserId, charge).then(() => {
        wasCharged[n] = true;
      }),
    );
    for (let n = 0; n < 20; n += 1) {
      const startedAtMs = performance.now();
      await budgets.settle({ id: createId() }, otherUserId, charge);
      expect(performance.now() - startedAtMs).toBeLessThan(1_000);
      await Bun.sleep(50);
    }
    expect(wasCharged.some(Boolean)).toBeFalse();
  });
  await Promise.all(pendingCharges);
  expect(await findDayWindow(lockedUserId)).toMatchObject({ spent: 6 * CHARGED_TOKENS });
  expect(await findDayWindow(otherUserId)).toMatchObject({ spent: 21 * CHARGED_TOKENS });
}, 20_000);

test("two instances that charge the same users and keys don't deadlock", async () => {
  const services = [createService(), createService()];
  const userIds = Array.from({ length: 5 }, () => createId());
  const keyIds = Array.from({ length: 3 }, () => createId());
  const reservations = await Promise.all(
    Array.from({ length: 60 }, async (_, n) => {
      const budgets = services[n % 2] as Service;
      const userId = userIds[n % userIds.length] ?? "";
      return { budgets, userId, id: (await reserveTokens(budgets, userId, keyIds[n % keyIds.length] ?? "")).id };
    }),
  );
  await Promise.all(reservations.map(({ budgets, userId, id }) => budgets.settle({ id }, userId, charge)));
  for (const userId of userIds)
    expect(await findDayWindow(userId)).toMatchObject({ spent: 12 * CHARGED_TOKENS, reserved: 0 });
  for (const keyId of keyIds)
    expect(await findDayWindow(keyId)).toMatchObject({ spent: 20 * CHARGED_TOKENS, reserved: 0 });
}, 20_000);
