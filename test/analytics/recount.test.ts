import { afterAll, beforeAll, expect, test } from "bun:test";
import fc from "fast-check";
import type { Database } from "../../src/db/client.ts";
import { createMetrics } from "../../src/lib/metrics.ts";
import type { TimeRange } from "../../src/modules/analytics/model.ts";
import * as queries from "../../src/modules/analytics/queries.ts";
import { type AnalyticsService, createAnalyticsService } from "../../src/modules/analytics/service.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { scaleRuns } from "../support/property-tests.ts";
import { createRandomHistory, type Random } from "./random-history.ts";
import { countAll, countByUser, type RawMessage, readRawMessages, roundCost, summarizeAnswers } from "./recount.ts";

const DAYS_BACK = 12;
const DAY_MS = 86_400_000;
const SLOT_MS = 900_000;
const zones = ["UTC", "Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns", "Europe/Berlin", "Australia/Lord_Howe"];

let database: Database;
let analytics: AnalyticsService;
beforeAll(async () => {
  ({ database } = await createTestDatabase());
  const metrics = createMetrics({ version: "test", commit: "test" });
  analytics = createAnalyticsService({ database, metrics, log: silentLog });
});
afterAll(() => database.end({ timeout: 1 }));

const filterByTime = (rows: readonly RawMessage[], from: Date, to: Date) =>
  rows.filter(({ at }) => at >= from && at < to);

/** Formats the local day of a time, or the local hour with its UTC offset. */
function formatLocal(at: Date, timeZone: string, interval: "hour" | "day"): string {
  const options = { timeZone, year: "numeric", month: "2-digit", day: "2-digit" } as const;
  const day = new Intl.DateTimeFormat("en-CA", options).format(at);
  if (interval === "day") return day;
  const hour = new Intl.DateTimeFormat("en-GB", { timeZone, hour: "2-digit", timeZoneName: "longOffset" }).format(at);
  return `${day} ${hour}`;
}

function pickSpan(random: Random): TimeRange {
  const start = Date.now() - (DAYS_BACK + 1) * DAY_MS;
  const pickTime = () => {
    const at = start + random.below((DAYS_BACK + 1) * DAY_MS);
    const width = [1, 1, SLOT_MS, DAY_MS][random.below(4)] ?? 1;
    return Math.floor(at / width) * width;
  };
  const [from = 0, to = 0] = [pickTime(), random.below(3) === 0 ? Date.now() + 1 : pickTime()].sort((a, b) => a - b);
  return { from: new Date(from), to: new Date(to), timeZone: zones[random.below(zones.length)] ?? "UTC" };
}

/** Waits until the figures are up to date. On a busy machine, they can lag behind. */
async function waitUntilCounted(): Promise<void> {
  const requestedAt = new Date().toISOString();
  const { from, to } = { from: new Date(), to: new Date() };
  while ((await analytics.getOverview({ from, to, timeZone: "UTC" })).as_of < requestedAt) await Bun.sleep(100);
}

async function checkSpan(
  rawMessages: readonly RawMessage[],
  existingUserIds: ReadonlySet<string>,
  span: TimeRange,
  random: Random,
) {
  const rows = filterByTime(rawMessages, span.from, span.to);
  await waitUntilCounted();
  const overview = roundCost(await analytics.getOverview(span));
  expect(overview).toMatchObject(countAll(rows));

  const models = (await analytics.listModels(span)).data.map(roundCost);
  const byModel = Map.groupBy(
    rows.filter(({ role }) => role === "assistant"),
    ({ model }) => model,
  );
  for (const figures of models) expect(figures).toMatchObject(summarizeAnswers(byModel.get(figures.model) ?? []));
  const namedModels = [...byModel].filter(
    ([model, modelRows]) => model !== null || summarizeAnswers(modelRows).generations > 0,
  );
  expect(models.length).toBe(namedModels.length);

  const users = await analytics.listUsers(span, null, 200);
  const userFigures = users.rows.map(
    (row) => [row.user_id, Number(row.cost_usd), row.messages, row.generations] as const,
  );
  const expectedFigures = [...countByUser(rows, existingUserIds)].map(
    ([id, counts]) => [id, counts.cost_usd, counts.messages, counts.generations] as const,
  );
  const sortById = (list: readonly (readonly [string, ...unknown[]])[]) =>
    list.toSorted(([a], [b]) => (a < b ? -1 : 1));
  expect(sortById(userFigures)).toEqual(sortById(expectedFigures));
  expect(userFigures.map(([, cost]) => cost)).toEqual(userFigures.map(([, cost]) => cost).toSorted((a, b) => b - a));

  const interval = random.below(2) === 0 ? "day" : "hour";
  const usage = await analytics.getUsage(span, interval);
  const rowsByPeriod = Map.groupBy(rows, ({ at }) => formatLocal(at, span.timeZone, interval));
  for (const { start, ...figures } of usage.data) {
    const name = formatLocal(new Date(start), span.timeZone, interval);
    expect(roundCost(figures)).toMatchObject(countAll(rowsByPeriod.get(name) ?? []));
    rowsByPeriod.delete(name);
  }
  expect([...rowsByPeriod.keys()]).toEqual([]);
}

test("figures match a recount of the messages after random changes", async () => {
  /** The highest counts, which prove that there was something to count. */
  const maxima = { days: 0, messages: 0, ratings: 0, generations: 0 };
  const recordMaxima = async (rawMessages: readonly RawMessage[]) => {
    const [days] = await database<{ count: number }[]>`
      select count(*)::int from analytics_days where is_rolled_up`;
    const { messages, feedback, generations } = countAll(rawMessages);
    maxima.days = Math.max(maxima.days, days?.count ?? 0);
    maxima.messages = Math.max(maxima.messages, messages);
    maxima.ratings = Math.max(maxima.ratings, feedback.positive + feedback.negative);
    maxima.generations = Math.max(maxima.generations, generations);
  };
  const history = createRandomHistory(database, { below: (n) => random.below(n) }, DAYS_BACK);
  let random: Random = createRandom(1);
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 2 ** 31 - 1 }), async (seed) => {
      random = createRandom(seed);
      for (let changes = 25 + random.below(50); changes > 0; changes -= 1) await history.change();
      // Sometimes counts only some of the slots, and rolls up some days.
      if (random.below(2) === 0) await queries.countBatch(database, 1 + random.below(30));
      else await waitUntilCounted();
      for (let days = random.below(20); days > 0; days -= 1) await queries.rollUpDay(database);
      const rawMessages = await readRawMessages(database);
      await recordMaxima(rawMessages);
      const existingUserIds = new Set((await database<{ id: string }[]>`select id from users`).map(({ id }) => id));
      for (let spans = 0; spans < 2; spans += 1)
        await checkSpan(rawMessages, existingUserIds, pickSpan(random), random);
    }),
    { numRuns: scaleRuns(8) },
  );
  expect(maxima.days).toBeGreaterThan(5);
  expect(maxima.messages).toBeGreaterThan(60);
  expect(maxima.ratings).toBeGreaterThan(5);
  expect(maxima.generations).toBeGreaterThan(20);
  const overview = await analytics.getOverview({ from: new Date(0), to: new Date(), timeZone: "UTC" });
  const [logins] = await database<{ count: number }[]>`select count(*)::int from sessions`;
  expect(overview.sessions).toBe(logins?.count ?? 0);
}, 120_000);

/** Creates a mulberry32 random number generator. */
function createRandom(seed: number): Random {
  let state = seed;
  return {
    below(n) {
      state = (state + 0x6d2b79f5) | 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * n);
    },
  };
}
