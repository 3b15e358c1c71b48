import type { Sql } from "../../src/db/client.ts";

export type RawMessage = {
  at: Date;
  role: "system" | "user" | "assistant" | "tool";
  status: string;
  model: string | null;
  finish_reason: string | null;
  conversation_id: string;
  author_id: string | null;
  requester_id: string | null;
  input_tokens: number;
  output_tokens: number;
  cached_input_tokens: number;
  reasoning_tokens: number;
  cost_usd: number;
  first_token_ms: number | null;
  positive: number;
  negative: number;
};

/** Reads every message that isn't deleted, with the simplest possible query. */
export const readRawMessages = (sql: Sql): Promise<RawMessage[]> =>
  sql<RawMessage[]>`
    select m.created_at as at, m.role, m.status, m.model, m.finish_reason, m.conversation_id, m.author_id,
      coalesce((m.metadata ->> 'requested_by')::uuid, p.author_id) as requester_id,
      coalesce(m.input_tokens, 0) as input_tokens, coalesce(m.output_tokens, 0) as output_tokens,
      coalesce(m.cached_input_tokens, 0) as cached_input_tokens, coalesce(m.reasoning_tokens, 0) as reasoning_tokens,
      coalesce(m.cost_usd, 0)::float8 as cost_usd, m.first_token_ms,
      (select count(*)::int from feedback f where f.message_id = m.id and f.rating = 1) as positive,
      (select count(*)::int from feedback f where f.message_id = m.id and f.rating = -1) as negative
    from messages m
    join conversations c on c.id = m.conversation_id
    left join messages p on p.id = m.parent_id
    where m.deleted_at is null and c.deleted_at is null`;

const sumBy = (rows: readonly RawMessage[], getValue: (row: RawMessage) => number): number =>
  rows.reduce((total, row) => total + getValue(row), 0);
const roundUsd = (usd: number): number => Math.round(usd * 1e6) / 1e6;

/** Returns the middle of a latency's histogram bucket, as documented. */
function roundToBucket(ms: number): number {
  if (ms < 128) return ms;
  const step = Math.floor(Math.log(ms / 128) / Math.log(1.02));
  return Math.round(128 * 1.02 ** (step + 0.5));
}

function computeLatencyPercentiles(rows: readonly RawMessage[]) {
  const latencies = rows.flatMap(({ first_token_ms }) => first_token_ms ?? []).sort((a, b) => a - b);
  if (latencies.length === 0) return null;
  const getPercentile = (quantile: number) => roundToBucket(latencies[Math.ceil(quantile * latencies.length) - 1] ?? 0);
  return { p50: getPercentile(0.5), p95: getPercentile(0.95) };
}

export function summarizeAnswers(rows: readonly RawMessage[]) {
  const finishedAnswers = rows.filter(({ role, finish_reason }) => role === "assistant" && finish_reason !== null);
  const failedAnswers = finishedAnswers.filter(({ status }) => status === "failed");
  return {
    generations: finishedAnswers.length,
    failed_generations: failedAnswers.length,
    error_rate: finishedAnswers.length === 0 ? 0 : failedAnswers.length / finishedAnswers.length,
    input_tokens: sumBy(rows, (row) => row.input_tokens),
    output_tokens: sumBy(rows, (row) => row.output_tokens),
    cached_input_tokens: sumBy(rows, (row) => row.cached_input_tokens),
    reasoning_tokens: sumBy(rows, (row) => row.reasoning_tokens),
    cost_usd: roundUsd(sumBy(rows, (row) => row.cost_usd)),
    first_token_ms: computeLatencyPercentiles(rows),
    feedback: { positive: sumBy(rows, (row) => row.positive), negative: sumBy(rows, (row) => row.negative) },
  };
}

export function countAll(rows: readonly RawMessage[]) {
  const countRole = (role: RawMessage["role"]) => rows.filter((row) => row.role === role).length;
  return {
    active_users: new Set(rows.flatMap(({ author_id }) => author_id ?? [])).size,
    active_conversations: new Set(rows.map((row) => row.conversation_id)).size,
    messages: rows.length,
    messages_by_role: {
      system: countRole("system"),
      user: countRole("user"),
      assistant: countRole("assistant"),
      tool: countRole("tool"),
    },
    ...summarizeAnswers(rows),
  };
}

export type UserCounts = {
  messages: number;
  generations: number;
  failed_generations: number;
  input_tokens: number;
  output_tokens: number;
  cost_usd: number;
};

/** Returns the counts of every user, except deleted users. */
export function countByUser(
  rows: readonly RawMessage[],
  existingUserIds: ReadonlySet<string>,
): Map<string, UserCounts> {
  const findUserId = (row: RawMessage) => (row.role === "assistant" ? row.requester_id : row.author_id);
  const userIds = new Set(rows.flatMap((row) => findUserId(row) ?? []).filter((id) => existingUserIds.has(id)));
  return new Map(
    [...userIds].map((id) => {
      const userRows = rows.filter((row) => findUserId(row) === id);
      const { generations, failed_generations, input_tokens, output_tokens, cost_usd } = summarizeAnswers(userRows);
      const messages = userRows.filter(({ role }) => role !== "assistant").length;
      return [id, { messages, generations, failed_generations, input_tokens, output_tokens, cost_usd }];
    }),
  );
}

/** Rounds the service's cost as the recount does, to remove floating-point noise. */
export const roundCost = <T extends { cost_usd: number }>(figures: T): T => ({
  ...figures,
  cost_usd: roundUsd(figures.cost_usd),
});
