import { afterAll, beforeAll, expect, test } from "bun:test";
import fc from "fast-check";
import type { Database } from "../../src/db/client.ts";
import { createMetrics } from "../../src/lib/metrics.ts";
import type { TimeRange } from "../../src/modules/analytics/model.ts";
import * as queries from "../../src/modules/analytics/queries.ts";
import { type AnalyticsService, createAnalyticsService } from "../../src/modules/analytics/service.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { countRuns } from "../support/properties.ts";
import { createHistory, type Random } from "./random-history.ts";
import { countAll, countAnswers, countUsers, type RawMessage, readRaw, roundCost } from "./recount.ts";

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

/** The local day, or hour with its offset, of a time. */
function nameLocal(at: Date, timeZone: string, interval: "hour" | "day"): string {
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

/** On a busy machine, counting pauses, and figures may be slightly outdated. */
async function waitUntilCounted(): Promise<void> {
  const askedAt = new Date().toISOString();
  const { from, to } = { from: new Date(), to: new Date() };
  while ((await analytics.getOverview({ from, to, timeZone: "UTC" })).as_of < askedAt) await Bun.sleep(100);
}

async function checkSpan(raw: readonly RawMessage[], existing: ReadonlySet<string>, span: TimeRange, random: Random) {
  const rows = filterByTime(raw, span.from, span.to);
  await waitUntilCounted();
  const overview = roundCost(await analytics.getOverview(span));
  expect(overview).toMatchObject(countAll(rows));

  const models = (await analytics.listModels(span)).data.map(roundCost);
  const byModel = Map.groupBy(
    rows.filter(({ role }) => role === "assistant"),
    ({ model }) => model,
  );
  for (const figures of models) expect(figures).toMatchObject(countAnswers(byModel.get(figures.model) ?? []));
  const named = [...byModel].filter(([model, own]) => model !== null || countAnswers(own).generations > 0);
  expect(models.length).toBe(named.length);

  const users = await analytics.listUsers(span, null, 200);
  const found = users.rows.map((row) => [row.user_id, Number(row.cost_usd), row.messages, row.generations] as const);
  const expected = [...countUsers(rows, existing)].map(
    ([id, own]) => [id, own.cost_usd, own.messages, own.generations] as const,
  );
  const sortById = (list: readonly (readonly [string, ...unknown[]])[]) =>
    list.toSorted(([a], [b]) => (a < b ? -1 : 1));
  expect(sortById(found)).toEqual(sortById(expected));
  expect(found.map(([, cost]) => cost)).toEqual(found.map(([, cost]) => cost).toSorted((a, b) => b - a));

  const interval = random.below(2) === 0 ? "day" : "hour";
  const usage = await analytics.getUsage(span, interval);
  const parts = Map.groupBy(rows, ({ at }) => nameLocal(at, span.timeZone, interval));
  for (const { start, ...figures } of usage.data) {
    const name = nameLocal(new Date(start), span.timeZone, interval);
    expect(roundCost(figures)).toMatchObject(countAll(parts.get(name) ?? []));
    parts.delete(name);
  }
  expect([...parts.keys()]).toEqual([]);
}

test("figures match a recount of the messages, whatever was stored, changed or deleted, and however it was counted before", async () => {
  /** Maximum counts, to prove that there was something to count. */
  const most = { days: 0, messages: 0, ratings: 0, generations: 0 };
  const recordMaxima = async (raw: readonly RawMessage[]) => {
    const [days] = await database<{ count: number }[]>`
      select count(*)::int from analytics_days where is_rolled_up`;
    const { messages, feedback, generations } = countAll(raw);
    most.days = Math.max(most.days, days?.count ?? 0);
    most.messages = Math.max(most.messages, messages);
    most.ratings = Math.max(most.ratings, feedback.positive + feedback.negative);
    most.generations = Math.max(most.generations, generations);
  };
  const history = createHistory(database, { below: (n) => random.below(n) }, DAYS_BACK);
  let random: Random = createRandom(1);
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 2 ** 31 - 1 }), async (seed) => {
      random = createRandom(seed);
      for (let steps = 25 + random.below(50); steps > 0; steps -= 1) await history.step();
      // Sometimes counts partially, and adds up days, between the changes.
      if (random.below(2) === 0) await queries.refresh(database, 1 + random.below(30));
      else await waitUntilCounted();
      for (let days = random.below(20); days > 0; days -= 1) await queries.rollUpDay(database);
      const raw = await readRaw(database);
      await recordMaxima(raw);
      const existing = new Set((await database<{ id: string }[]>`select id from users`).map(({ id }) => id));
      for (let spans = 0; spans < 2; spans += 1) await checkSpan(raw, existing, pickSpan(random), random);
    }),
    { numRuns: countRuns(8) },
  );
  expect(most.days).toBeGreaterThan(5);
  expect(most.messages).toBeGreaterThan(60);
  expect(most.ratings).toBeGreaterThan(5);
  expect(most.generations).toBeGreaterThan(20);
  const all = await analytics.getOverview({ from: new Date(0), to: new Date(), timeZone: "UTC" });
  const [logins] = await database<{ count: number }[]>`select count(*)::int from sessions`;
  expect(all.sessions).toBe(logins?.count ?? 0);
}, 120_000);

/** mulberry32 */
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
