import type { Database } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { mapToFigures, mapToModel, mapToTimeRange, noActives, noFigures } from "./figures.ts";
import type { AnalyticsModels, AnalyticsOverview, AnalyticsUsage, Interval, TimeRange } from "./model.ts";
import type { CountedTimeRange, UserFiguresRow, UserPosition } from "./queries.ts";
import * as queries from "./queries.ts";
import { createRefresher } from "./refresher.ts";
import { checkParts, createUnknownZone } from "./time-range.ts";

/** Usage figures for administrators, counted from stored messages. */
export interface AnalyticsService {
  getOverview(range: TimeRange): Promise<AnalyticsOverview>;

  /** By hour or day in the time zone, including empty ones. @throws Problem `invalid` if there are too many. */
  getUsage(range: TimeRange, interval: Interval): Promise<AnalyticsUsage>;

  /** By model, the most costly first; at most 200. */
  listModels(range: TimeRange): Promise<AnalyticsModels>;

  /** By user, the most costly first. */
  listUsers(
    range: TimeRange,
    after: UserPosition | null,
    rows: number,
  ): Promise<{ asOf: Date; rows: UserFiguresRow[] }>;

  /** For the job runner: counts everything new. An interrupted run is resumed by the next one, on any instance. */
  refresh(signal: AbortSignal): Promise<void>;
}

type Dependencies = { database: Database; metrics: Metrics; log: Log };

export function createAnalyticsService({ database, metrics, log }: Dependencies): AnalyticsService {
  const refresher = createRefresher({ database, metrics, log });
  async function findScope(range: TimeRange): Promise<CountedTimeRange> {
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
      const scope = await findScope(range);
      const [figures, actives] = await Promise.all([
        queries.sumAll(database, scope),
        queries.countActives(database, scope),
      ]);
      return { ...mapToTimeRange(scope), ...mapToFigures(figures ?? noFigures, actives) };
    },

    async getUsage(range, interval) {
      checkParts(range, interval);
      const starts = await listParts(range, interval);
      const scope = await findScope(range);
      const hasDays = interval === "day" && starts.every((start) => Date.parse(start) % DAY_MS === 0);
      const [sums, actives] = await Promise.all([
        queries.sumByPart(database, scope, starts, hasDays),
        queries.listActives(database, scope, starts, hasDays),
      ]);
      const figuresOf = new Map(sums.map((row) => [row.key, row]));
      const data = starts.map((start, index) => ({
        start,
        ...mapToFigures(figuresOf.get(index + 1) ?? noFigures, actives.get(index + 1) ?? noActives),
      }));
      return { ...mapToTimeRange(scope), interval, data };
    },

    async listModels(range) {
      const scope = await findScope(range);
      const sums = await queries.sumByModel(database, scope);
      const data = sums.filter(({ key, generations }) => key !== "" || generations > 0).map(mapToModel);
      return {
        ...mapToTimeRange(scope),
        data: data.toSorted((a, b) => b.cost_usd - a.cost_usd || b.generations - a.generations).slice(0, MODELS_MAX),
      };
    },

    async listUsers(range, after, rows) {
      const scope = await findScope(range);
      return { asOf: scope.asOf, rows: await queries.listUsers(database, scope, after, rows) };
    },

    refresh: refresher.run,
  };
}

/** How many models are listed: imported messages may name any. */
const MODELS_MAX = 200;
const NEVER = new Date(0);
const DAY_MS = 24 * 60 * 60_000;
/** Postgres error code `invalid_parameter_value`. */
const INVALID_PARAMETER = "22023";
