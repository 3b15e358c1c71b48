import type { Database } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { mapToFigures, mapToModel, mapToTimeRange, noActivity, noFigures } from "./figures.ts";
import type { AnalyticsModels, AnalyticsOverview, AnalyticsUsage, Interval, TimeRange } from "./model.ts";
import type { CountedTimeRange, UserFiguresRow, UserPosition } from "./queries.ts";
import * as queries from "./queries.ts";
import { createRefresher } from "./refresher.ts";
import { checkSeriesLength, createUnknownTimeZoneProblem } from "./time-range.ts";

/** Provides usage figures for administrators, counted from stored messages. */
export interface AnalyticsService {
  /** Returns the totals of a time range. */
  getOverview(range: TimeRange): Promise<AnalyticsOverview>;

  /**
   * Returns figures per hour or day in the time zone, including hours or days without messages.
   * @throws Problem `invalid` if there would be too many hours or days.
   */
  getUsage(range: TimeRange, interval: Interval): Promise<AnalyticsUsage>;

  /** Lists figures per model, most expensive first. Returns at most 200 models. */
  listModels(range: TimeRange): Promise<AnalyticsModels>;

  /** Lists figures per user, most expensive first. */
  listUsers(
    range: TimeRange,
    after: UserPosition | null,
    rowsMax: number,
  ): Promise<{ asOf: Date; rows: UserFiguresRow[] }>;

  /** Job: counts all new messages. If it is interrupted, the next run on any instance continues. */
  refresh(signal: AbortSignal): Promise<void>;
}

type Dependencies = { database: Database; metrics: Metrics; log: Log };

export function createAnalyticsService({ database, metrics, log }: Dependencies): AnalyticsService {
  const refresher = createRefresher({ database, metrics, log });
  async function bringRangeUpToDate(range: TimeRange): Promise<CountedTimeRange> {
    const { counted_until: countedUntil = NEVER, as_of: asOf = NEVER } = (await refresher.bringUpToDate()) ?? {};
    return { ...range, countedUntil, asOf };
  }

  const listParts = (range: TimeRange, interval: Interval): Promise<string[]> =>
    queries.listParts(database, range, interval).catch((error) => {
      if (error?.code === INVALID_PARAMETER) throw createUnknownTimeZoneProblem();
      throw error;
    });

  return {
    async getOverview(range) {
      const countedRange = await bringRangeUpToDate(range);
      const [figures, active] = await Promise.all([
        queries.sumFigures(database, countedRange),
        queries.countActive(database, countedRange),
      ]);
      return { ...mapToTimeRange(countedRange), ...mapToFigures(figures ?? noFigures, active) };
    },

    async getUsage(range, interval) {
      checkSeriesLength(range, interval);
      const starts = await listParts(range, interval);
      const countedRange = await bringRangeUpToDate(range);
      const isWholeDays = interval === "day" && starts.every((start) => Date.parse(start) % DAY_MS === 0);
      const [sums, active] = await Promise.all([
        queries.sumFiguresByPart(database, countedRange, starts, isWholeDays),
        queries.listActiveCounts(database, countedRange, starts, isWholeDays),
      ]);
      const figuresByPart = new Map(sums.map((row) => [row.key, row]));
      const data = starts.map((start, index) => ({
        start,
        ...mapToFigures(figuresByPart.get(index + 1) ?? noFigures, active.get(index + 1) ?? noActivity),
      }));
      return { ...mapToTimeRange(countedRange), interval, data };
    },

    async listModels(range) {
      const countedRange = await bringRangeUpToDate(range);
      const sums = await queries.sumFiguresByModel(database, countedRange);
      const data = sums.filter(({ key, generations }) => key !== "" || generations > 0).map(mapToModel);
      return {
        ...mapToTimeRange(countedRange),
        data: data.toSorted((a, b) => b.cost_usd - a.cost_usd || b.generations - a.generations).slice(0, MODELS_MAX),
      };
    },

    async listUsers(range, after, rowsMax) {
      const countedRange = await bringRangeUpToDate(range);
      return { asOf: countedRange.asOf, rows: await queries.listUsers(database, countedRange, after, rowsMax) };
    },

    refresh: refresher.run,
  };
}

/** The maximum number of listed models, because imported messages may contain any number of model names. */
const MODELS_MAX = 200;
const NEVER = new Date(0);
const DAY_MS = 24 * 60 * 60_000;
/** The SQLSTATE `invalid_parameter_value`. */
const INVALID_PARAMETER = "22023";
