import type { Sql } from "../../db/client.ts";
import type { Interval, TimeRange } from "./model.ts";

/** A time range and its cut-off: only rows created before `countedUntil` count. The figures are as of `asOf`. */
export type CountedTimeRange = TimeRange & { countedUntil: Date; asOf: Date };

/** Counts about this many messages (sql/functions/analytics_refresh.sql). @returns whether there is more to count. */
export async function refresh(sql: Sql, rows: number): Promise<boolean> {
  const [row] = await sql<{ more: boolean }[]>`select refresh_analytics(${rows}) as more`;
  return row?.more ?? false;
}

/** @returns whether a day was rolled up; false: none is due. */
export async function rollUpDay(sql: Sql): Promise<boolean> {
  const [row] = await sql<{ done: boolean }[]>`select roll_up_analytics_day() as done`;
  return row?.done ?? false;
}

export type State = {
  counted_until: Date;
  as_of: Date;
  /** Duration of the repeated part of the last step, and how long ago it ended. */
  took_ms: number;
  age_ms: number;
};

/** @returns undefined before the first count. */
export async function findState(sql: Sql): Promise<State | undefined> {
  const [row] = await sql<State[]>`
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
 * Sums of a time range by key.
 * @param key an expression over a row `x` of read_analytics.
 * @param hasDays whether every key covers whole UTC days.
 */
async function sumBy<Key>(
  sql: Sql,
  { from, to, countedUntil }: CountedTimeRange,
  key: ReturnType<Sql>,
  hasDays: boolean,
): Promise<(FiguresRow & { key: Key })[]> {
  const sums = sumColumns.map(
    (name, index) => sql`${index > 0 ? sql`,` : sql``} sum(${sql(name)})::float8 as ${sql(name)}`,
  );
  return sql<(FiguresRow & { key: Key })[]>`
    with source as materialized (
      select ${key} as key, x.* from read_analytics(${from}, ${to}, ${countedUntil}, ${hasDays}) x
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

export async function sumAll(sql: Sql, scope: CountedTimeRange): Promise<FiguresRow | undefined> {
  const [row] = await sumBy(sql, scope, sql`0`, true);
  return row;
}

/** Sums by model. @returns with the model as key; '': no model was called. */
export const sumByModel = async (sql: Sql, scope: CountedTimeRange): Promise<(FiguresRow & { key: string })[]> =>
  sumBy<string>(sql, scope, sql`x.model`, true);

/** The starts of the hours or days of a time range. @throws a Postgres error for an unknown time zone. */
export async function listParts(sql: Sql, { from, to, timeZone }: TimeRange, interval: Interval): Promise<string[]> {
  const rows = await sql<{ starts_at: Date }[]>`
    select starts_at from list_analytics_parts(${from}, ${to}, ${interval}, ${timeZone})`;
  return rows.map(({ starts_at }) => starts_at.toISOString());
}

/** @returns with the bucket number as key, from 1; empty buckets are left out. */
export const sumByPart = (sql: Sql, scope: CountedTimeRange, starts: readonly string[], hasDays: boolean) =>
  sumBy<number>(sql, scope, sql`greatest(1, width_bucket(x.at, ${[...starts]}::timestamptz[]))`, hasDays);

export type Actives = { users: number; conversations: number };

export async function countActives(sql: Sql, { from, to, countedUntil }: CountedTimeRange): Promise<Actives> {
  const [row] = await sql<
    Actives[]
  >`select users, conversations from count_analytics_actives(${from}, ${to}, ${countedUntil})`;
  return row ?? { users: 0, conversations: 0 };
}

/** The same for each non-empty bucket. */
export async function listActives(
  sql: Sql,
  { from, to, countedUntil }: CountedTimeRange,
  starts: readonly string[],
  hasDays: boolean,
): Promise<Map<number, Actives>> {
  const rows = await sql<(Actives & { part: number })[]>`
    select part, users, conversations
    from list_analytics_actives(${from}, ${to}, ${countedUntil}, ${hasDays}, ${[...starts]}::timestamptz[])`;
  return new Map(rows.map(({ part, ...actives }) => [part, actives]));
}

/**
 * The position of a list of users: the sort key of the last one, ending with the user's number in analytics. As text,
 * since sums may not fit a double.
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

/** Users with activity in the time range, the most costly first, then by tokens. */
export async function listUsers(
  sql: Sql,
  { from, to, countedUntil }: CountedTimeRange,
  after: UserPosition | null,
  rows: number,
): Promise<UserFiguresRow[]> {
  // Look up only the users of this page.
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
      order by y.cost desc, tokens desc, y.n desc limit ${rows}
    ) x
    join analytics_users a on a.n = x.n
    join users u on u.id = a.user_id
    order by x.cost desc, x.tokens desc, x.n desc`;
}
