import type { Sql } from "../../db/client.ts";
import type { Interval, TimeRange } from "./model.ts";

/** A time range with its cutoff: only rows created before `countedUntil` are included. The figures are as of `asOf`. */
export type CountedTimeRange = TimeRange & { countedUntil: Date; asOf: Date };

/** Counts about `rows` messages (sql/functions/analytics_refresh.sql). @returns whether there is more to count. */
export async function countBatch(sql: Sql, rows: number): Promise<boolean> {
  const [row] = await sql<{ more: boolean }[]>`select refresh_analytics(${rows}) as more`;
  return row?.more ?? false;
}

/** Rolls up one day if a day is due. @returns whether a day was rolled up. */
export async function rollUpDay(sql: Sql): Promise<boolean> {
  const [row] = await sql<{ done: boolean }[]>`select roll_up_analytics_day() as done`;
  return row?.done ?? false;
}

export type CountingState = {
  counted_until: Date;
  as_of: Date;
  /** The estimated time that the last counting step spent on rows that had already been counted. */
  took_ms: number;
  /** The time since the last step ended. */
  age_ms: number;
};

/** Finds the state of the counting. Returns undefined before the first count. */
export async function findCountingState(sql: Sql): Promise<CountingState | undefined> {
  const [row] = await sql<CountingState[]>`
    select counted_until, as_of, took_ms, (extract(epoch from clock_timestamp() - refreshed_at) * 1000)::float8 as age_ms
    from analytics_state where frontier is not null`;
  return row;
}

export type FiguresRow = {
  messages: number;
  system_messages: number;
  user_messages: number;
  assistant_messages: number;
  tool_messages: number;
  generations: number;
  failed_generations: number;
  input_tokens: number;
  output_tokens: number;
  cached_input_tokens: number;
  reasoning_tokens: number;
  cost_usd: number;
  positive_feedback: number;
  negative_feedback: number;
  sessions: number;
  first_token_p50: number | null;
  first_token_p95: number | null;
};

const sumColumns = [
  "messages",
  "system_messages",
  "user_messages",
  "assistant_messages",
  "tool_messages",
  "generations",
  "failed_generations",
  "input_tokens",
  "output_tokens",
  "cached_input_tokens",
  "reasoning_tokens",
  "cost_usd",
  "positive_feedback",
  "negative_feedback",
  "sessions",
] as const;

/**
 * Sums the figures of a time range by key.
 * @param key an SQL expression for a row `x` of read_analytics.
 * @param isWholeDays whether every key covers whole UTC days.
 */
async function sumFiguresByKey<Key>(
  sql: Sql,
  { from, to, countedUntil }: CountedTimeRange,
  key: ReturnType<Sql>,
  isWholeDays: boolean,
): Promise<(FiguresRow & { key: Key })[]> {
  const sums = sumColumns.map(
    (name, index) => sql`${index > 0 ? sql`,` : sql``} sum(${sql(name)})::float8 as ${sql(name)}`,
  );
  return sql<(FiguresRow & { key: Key })[]>`
    with source as materialized (
      select ${key} as key, x.* from read_analytics(${from}, ${to}, ${countedUntil}, ${isWholeDays}) x
    ),
    tokens as (
      select s.key, b.bucket, sum(b.count) as count
      from source s cross join lateral unnest(s.first_token_buckets, s.first_token_counts) as b (bucket, count)
      group by s.key, b.bucket
    ),
    ranked as (
      select key, bucket, sum(count) over (partition by key order by bucket) as rank,
        sum(count) over (partition by key) as total
      from tokens
    ),
    latencies as (
      select key, first_token_ms(min(bucket) filter (where rank >= 0.5 * total)) as first_token_p50,
        first_token_ms(min(bucket) filter (where rank >= 0.95 * total)) as first_token_p95
      from ranked group by key
    ),
    summed as (select key, ${sums} from source group by key)
    select * from summed left join latencies using (key) order by key`;
}

export async function sumFigures(sql: Sql, range: CountedTimeRange): Promise<FiguresRow | undefined> {
  const [row] = await sumFiguresByKey(sql, range, sql`0`, true);
  return row;
}

/** Sums figures by model. The key is the model's name, or '' if no model was called. */
export const sumFiguresByModel = async (sql: Sql, range: CountedTimeRange): Promise<(FiguresRow & { key: string })[]> =>
  sumFiguresByKey<string>(sql, range, sql`x.model`, true);

/** Lists the start of each hour or day in a time range. @throws a Postgres error if the time zone is unknown. */
export async function listParts(sql: Sql, { from, to, timeZone }: TimeRange, interval: Interval): Promise<string[]> {
  const rows = await sql<{ starts_at: Date }[]>`
    select starts_at from list_analytics_parts(${from}, ${to}, ${interval}, ${timeZone})`;
  return rows.map(({ starts_at }) => starts_at.toISOString());
}

/** Sums figures by hour or day. The key is the number of the hour or day, starting at 1. Hours or days without figures are omitted. */
export const sumFiguresByPart = (sql: Sql, range: CountedTimeRange, starts: readonly string[], isWholeDays: boolean) =>
  sumFiguresByKey<number>(sql, range, sql`greatest(1, width_bucket(x.at, ${[...starts]}::timestamptz[]))`, isWholeDays);

export type ActiveCounts = { users: number; conversations: number };

export async function countActive(sql: Sql, { from, to, countedUntil }: CountedTimeRange): Promise<ActiveCounts> {
  const [row] = await sql<
    ActiveCounts[]
  >`select users, conversations from count_analytics_actives(${from}, ${to}, ${countedUntil})`;
  return row ?? { users: 0, conversations: 0 };
}

/** Counts active users and conversations in each hour or day. Hours or days without activity are omitted. */
export async function listActiveCounts(
  sql: Sql,
  { from, to, countedUntil }: CountedTimeRange,
  starts: readonly string[],
  isWholeDays: boolean,
): Promise<Map<number, ActiveCounts>> {
  const rows = await sql<(ActiveCounts & { part: number })[]>`
    select part, users, conversations
    from list_analytics_actives(${from}, ${to}, ${countedUntil}, ${isWholeDays}, ${[...starts]}::timestamptz[])`;
  return new Map(rows.map(({ part, ...active }) => [part, active]));
}

/**
 * A position in a list of users: the sort key of a page's last user. `n` is the user's number in analytics. All fields are strings,
 * because sums may be too large for a double.
 */
export type UserPosition = { cost: string; tokens: string; n: string };

export type UserFiguresRow = {
  n: number;
  user_id: string;
  email: string;
  display_name: string;
  messages: number;
  generations: number;
  failed_generations: number;
  input_tokens: number;
  output_tokens: number;
  cost_usd: string;
  /** In units of 0.00000001 USD. */
  cost: string;
  tokens: string;
};

/** Lists users with activity in the time range, most expensive first. Users with the same cost are ordered by tokens. */
export async function listUsers(
  sql: Sql,
  { from, to, countedUntil }: CountedTimeRange,
  after: UserPosition | null,
  rowsMax: number,
): Promise<UserFiguresRow[]> {
  // Looks up only the users on this page.
  return sql<UserFiguresRow[]>`
    select x.n, u.id as user_id, u.email, u.display_name, x.messages::float8, x.generations::float8,
      x.failed_generations::float8, x.input_tokens::float8, x.output_tokens::float8,
      (x.cost / 100000000::numeric)::text as cost_usd, x.cost::text, x.tokens::text
    from (
      select y.*, y.input_tokens + y.output_tokens as tokens
      from sum_user_analytics(${from}, ${to}, ${countedUntil}) y
      where ${
        after
          ? sql`(y.cost, y.input_tokens + y.output_tokens, y.n) < (${after.cost}::bigint, ${after.tokens}::bigint, ${after.n}::integer)`
          : sql`true`
      }
      order by y.cost desc, tokens desc, y.n desc limit ${rowsMax}
    ) x
    join analytics_users a on a.n = x.n
    join users u on u.id = a.user_id
    order by x.cost desc, x.tokens desc, x.n desc`;
}
