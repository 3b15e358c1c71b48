import type { Database } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { mapToFigures, mapToModel, mapToSpan, noActives, noFigures } from "./figures.ts";
import type { AnalyticsModels, AnalyticsOverview, AnalyticsUsage, Interval, Span } from "./model.ts";
import type { CountedSpan, UserFiguresRow, UserPosition } from "./queries.ts";
import * as queries from "./queries.ts";
import { createRefresher } from "./refresher.ts";
import { checkParts, createUnknownZone } from "./span.ts";

/** Usage figures for administrators, counted from stored messages. */
export interface AnalyticsService {
  getOverview(span: Span): Promise<AnalyticsOverview>;

  /** By hour or day in the time zone, including empty ones. @throws Problem `invalid` if there are too many. */
  getUsage(span: Span, interval: Interval): Promise<AnalyticsUsage>;

  /** By model, the most costly first; at most 200. */
  listModels(span: Span): Promise<AnalyticsModels>;

  /** By user, the most costly first. */
  listUsers(span: Span, after: UserPosition | null, rows: number): Promise<{ asOf: Date; rows: UserFiguresRow[] }>;

  /** For the job runner: counts everything new. An interrupted run is resumed by the next one, on any instance. */
  refresh(signal: AbortSignal): Promise<void>;
}

type Dependencies = { database: Database; metrics: Metrics; log: Log };

export function createAnalyticsService({ database, metrics, log }: Dependencies): AnalyticsService {
  const refresher = createRefresher({ database, metrics, log });
  async function findScope(span: Span): Promise<CountedSpan> {
    const { counted_until: countedUntil = NEVER, as_of: asOf = NEVER } = (await refresher.bringUpToDate()) ?? {};
    return { ...span, countedUntil, asOf };
  }

  const listParts = (span: Span, interval: Interval): Promise<string[]> =>
    queries.listParts(database, span, interval).catch((error) => {
      if (error?.code === INVALID_PARAMETER) throw createUnknownZone();
      throw error;
    });

  return {
    async getOverview(span) {
      const scope = await findScope(span);
      const [figures, actives] = await Promise.all([
        queries.sumAll(database, scope),
        queries.countActives(database, scope),
      ]);
      return { ...mapToSpan(scope), ...mapToFigures(figures ?? noFigures, actives) };
    },

    async getUsage(span, interval) {
      checkParts(span, interval);
      const starts = await listParts(span, interval);
      const scope = await findScope(span);
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
      return { ...mapToSpan(scope), interval, data };
    },

    async listModels(span) {
      const scope = await findScope(span);
      const sums = await queries.sumByModel(database, scope);
      const data = sums.filter(({ key, generations }) => key !== "" || generations > 0).map(mapToModel);
      return {
        ...mapToSpan(scope),
        data: data.toSorted((a, b) => b.cost_usd - a.cost_usd || b.generations - a.generations).slice(0, MODELS_MAX),
      };
    },

    async listUsers(span, after, rows) {
      const scope = await findScope(span);
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
