import { createBadCursorProblem, createPage, parsePageQuery } from "../../http/pagination.ts";
import { type Route, route } from "../../http/route.ts";
import { parseTimeFilter } from "../../http/time-filter.ts";
import { mapToTimeRange } from "./figures.ts";
import {
  AnalyticsModels,
  AnalyticsOverview,
  AnalyticsQuery,
  AnalyticsUsage,
  AnalyticsUsers,
  type TimeRange,
  UsageQuery,
  type UserFigures,
  UsersQuery,
} from "./model.ts";
import type { UserFiguresRow, UserPosition } from "./queries.ts";
import type { AnalyticsService } from "./service.ts";
import { columns, respondWithTable, tableMediaTypes } from "./tables.ts";
import { parseTimeRange } from "./time-range.ts";

type Dependencies = { analytics: AnalyticsService };

const sharedOptions = {
  method: "GET",
  tag: "analytics",
  scope: "analytics:read",
  isForAdmins: true,
  expensive: "always",
  mediaTypes: tableMediaTypes,
  responseHeaders: ["Content-Disposition"],
  problems: [406],
} as const;

/** Creates the routes of `/api/v1/analytics`: usage figures, as JSON or CSV. */
export const createAnalyticsRoutes = ({ analytics }: Dependencies): Route[] => [
  route({
    ...sharedOptions,
    path: "/api/v1/analytics/overview",
    operationId: "getAnalyticsOverview",
    summary: "Get the usage figures for a time range (administrators)",
    query: AnalyticsQuery,
    ok: AnalyticsOverview,
    handle: async ({ query, request, set }) => {
      const body = await analytics.getOverview(parseTimeRange(query));
      const table = { name: "overview", rows: [body], columns: columns.overview };
      return respondWithTable({ request, headers: set.headers }, body, table);
    },
  }),
  route({
    ...sharedOptions,
    path: "/api/v1/analytics/usage",
    operationId: "listAnalyticsUsage",
    summary: "Get usage figures per hour or day (administrators)",
    query: UsageQuery,
    ok: AnalyticsUsage,
    handle: async ({ query, request, set }) => {
      const body = await analytics.getUsage(parseTimeRange(query), query.interval ?? "day");
      const table = { name: "usage", rows: body.data, columns: columns.usage };
      return respondWithTable({ request, headers: set.headers }, body, table);
    },
  }),
  route({
    ...sharedOptions,
    path: "/api/v1/analytics/models",
    operationId: "listAnalyticsModels",
    summary: "Get usage figures per model, most expensive first (administrators)",
    query: AnalyticsQuery,
    ok: AnalyticsModels,
    handle: async ({ query, request, set }) => {
      const body = await analytics.listModels(parseTimeRange(query));
      const table = { name: "models", rows: body.data, columns: columns.models };
      return respondWithTable({ request, headers: set.headers }, body, table);
    },
  }),
  route({
    ...sharedOptions,
    path: "/api/v1/analytics/users",
    operationId: "listAnalyticsUsers",
    summary: "Get usage figures per user, most expensive first (administrators)",
    description: "Later pages keep the time range of the first page.",
    query: UsersQuery,
    ok: AnalyticsUsers,
    handle: async ({ query, request, set }) => {
      const { limit, after } = parsePageQuery(query, 5);
      const requestedRange = parseTimeRange(query);
      const { range, position } = after
        ? parseCursor(after, requestedRange)
        : { range: requestedRange, position: null };
      const { rows, asOf } = await analytics.listUsers(range, position, limit + 1);
      const getCursor = (row: UserFiguresRow) => [
        range.from.toISOString(),
        range.to.toISOString(),
        row.cost,
        row.tokens,
        String(row.n),
      ];
      const page = createPage(rows, limit, getCursor, mapRowToUser, { request, headers: set.headers });
      const table = { name: "users", rows: page.data, columns: columns.users };
      return respondWithTable(
        { request, headers: set.headers },
        { ...mapToTimeRange({ ...range, asOf }), ...page },
        table,
      );
    },
  }),
];

// These patterns match only numbers that fit in a bigint column (sums) and in an integer column (user numbers).
const sumPattern = /^\d{1,18}$/;
const userNumberPattern = /^\d{1,9}$/;

/** Parses the parts of a cursor. @throws Problem `bad_cursor`. */
function parseCursor(
  [from = "", to = "", cost = "", tokens = "", n = ""]: string[],
  { timeZone }: TimeRange,
): { range: TimeRange; position: UserPosition } {
  if (!sumPattern.test(cost) || !sumPattern.test(tokens) || !userNumberPattern.test(n)) throw createBadCursorProblem();
  try {
    const range = {
      from: parseTimeFilter(from, "from") ?? new Date(),
      to: parseTimeFilter(to, "to") ?? new Date(),
      timeZone,
    };
    return { range, position: { cost, tokens, n } };
  } catch {
    throw createBadCursorProblem();
  }
}

const mapRowToUser = (row: UserFiguresRow): UserFigures => ({
  user: { id: row.user_id, email: row.email, display_name: row.display_name },
  messages: row.messages,
  generations: row.generations,
  failed_generations: row.failed_generations,
  input_tokens: row.input_tokens,
  output_tokens: row.output_tokens,
  cost_usd: Number(row.cost_usd),
});
