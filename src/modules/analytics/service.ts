import type { Database } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { mapToFigures, mapToModel, mapToTimeRange, noActivity, noFigures } from "./figures.ts";
import type { AnalyticsModels, AnalyticsOverview, AnalyticsUsage, Interval, TimeRange } from "./model.ts";
import type { CountedTimeRange, UserFiguresRow, UserPosition } from "./queries.ts";
import * as queries from "./queries.ts";
import { createRefresher } from "./refresher.ts";
import { checkParts, createUnknownZone } from "./time-range.ts";

/** Usage figures for administrators, counted from stored messages. */
export interface AnalyticsService {
  /** The totals of a time range. */
  getOverview(range: TimeRange): Promise<AnalyticsOverview>;

  /** Figures per hour or day in the time zone, including empty ones. @throws Problem `invalid` if there are too many. */
  getUsage(range: TimeRange, interval: Interval): Promise<AnalyticsUsage>;

  /** Figures per model, the most expensive first; at most 200. */
  listModels(range: TimeRange): Promise<AnalyticsModels>;

  /** Figures per user, the most expensive first. */
  listUsers(
    range: TimeRange,
    after: UserPosition | null,
    rows: number,
  ): Promise<{ asOf: Date; rows: UserFiguresRow[] }>;

  /** Counts everything new, as a job. An interrupted run is resumed by the next one, on any instance. */
  refresh(signal: AbortSignal): Promise<void>;
}

type Dependencies = { database: Database; metrics: Metrics; log: Log };

export function createAnalyticsService({ database, metrics, log }: Dependencies): AnalyticsService {
  const refresher = createRefresher({ database, metrics, log });
  async function countAndFindRange(range: TimeRange): Promise<CountedTimeRange> {
    const { counted_until: countedUntil = NEVER, as_of: asOf = NEVER } = (await refresher.bringUpToDate()) ?? {};
    return { ...range, countedUntil, asOf };
  }

  const listParts = (range: TimeRange, interval: Interval): Promise<string[]> =>
    queries.listParts(database, range, interval).catch((error) => {
      if (error?.code === INVALID_PARAMETER) throw createUnknownZone();
      throw error;
    });

  return {
    async getOverview(range) {
      const counted = await countAndFindRange(range);
      const [figures, active] = await Promise.all([
        queries.sumAll(database, counted),
        queries.countActive(database, counted),
      ]);
      return { ...mapToTimeRange(counted), ...mapToFigures(figures ?? noFigures, active) };
    },

    async getUsage(range, interval) {
      checkParts(range, interval);
      const starts = await listParts(range, interval);
      const counted = await countAndFindRange(range);
      const isWholeDays = interval === "day" && starts.every((start) => Date.parse(start) % DAY_MS === 0);
      const [sums, active] = await Promise.all([
        queries.sumByPart(database, counted, starts, isWholeDays),
        queries.listActiveCounts(database, counted, starts, isWholeDays),
      ]);
      const figuresOf = new Map(sums.map((row) => [row.key, row]));
      const data = starts.map((start, index) => ({
        start,
        ...mapToFigures(figuresOf.get(index + 1) ?? noFigures, active.get(index + 1) ?? noActivity),
      }));
      return { ...mapToTimeRange(counted), interval, data };
    },

    async listModels(range) {
      const counted = await countAndFindRange(range);
      const sums = await queries.sumByModel(database, counted);
      const data = sums.filter(({ key, generations }) => key !== "" || generations > 0).map(mapToModel);
      return {
        ...mapToTimeRange(counted),
        data: data.toSorted((a, b) => b.cost_usd - a.cost_usd || b.generations - a.generations).slice(0, MODELS_MAX),
      };
    },

    async listUsers(range, after, rows) {
      const counted = await countAndFindRange(range);
      return { asOf: counted.asOf, rows: await queries.listUsers(database, counted, after, rows) };
    },

    refresh: refresher.run,
  };
}

/** The maximum number of models listed: imported messages may contain any number of model names. */
const MODELS_MAX = 200;
const NEVER = new Date(0);
const DAY_MS = 24 * 60 * 60_000;
/** Postgres error code `invalid_parameter_value`. */
const INVALID_PARAMETER = "22023";
