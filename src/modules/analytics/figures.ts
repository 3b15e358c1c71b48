import type { ModelFigures, UsagePart } from "./model.ts";
import type { ActiveCounts, CountedTimeRange, FiguresRow } from "./queries.ts";

/** The figures for a time range without messages. */
export const noFigures: FiguresRow = {
  messages: 0,
  system_messages: 0,
  user_messages: 0,
  assistant_messages: 0,
  tool_messages: 0,
  generations: 0,
  failed_generations: 0,
  input_tokens: 0,
  output_tokens: 0,
  cached_input_tokens: 0,
  reasoning_tokens: 0,
  cost_usd: 0,
  positive_feedback: 0,
  negative_feedback: 0,
  sessions: 0,
  first_token_p50: null,
  first_token_p95: null,
};

export const noActivity: ActiveCounts = { users: 0, conversations: 0 };

export const mapToTimeRange = ({ from, to, timeZone, asOf }: Omit<CountedTimeRange, "countedUntil">) => ({
  from: from.toISOString(),
  to: to.toISOString(),
  time_zone: timeZone,
  as_of: asOf.toISOString(),
});

const mapToAnswerFigures = (row: FiguresRow) => ({
  generations: row.generations,
  failed_generations: row.failed_generations,
  error_rate: row.generations === 0 ? 0 : row.failed_generations / row.generations,
  input_tokens: row.input_tokens,
  output_tokens: row.output_tokens,
  cached_input_tokens: row.cached_input_tokens,
  reasoning_tokens: row.reasoning_tokens,
  cost_usd: row.cost_usd,
  first_token_ms:
    row.first_token_p50 === null || row.first_token_p95 === null
      ? null
      : { p50: row.first_token_p50, p95: row.first_token_p95 },
  feedback: { positive: row.positive_feedback, negative: row.negative_feedback },
});

/** Maps a row to the figures that clients receive. */
export const mapToFigures = (row: FiguresRow, active: ActiveCounts): Omit<UsagePart, "start"> => ({
  active_users: active.users,
  active_conversations: active.conversations,
  messages: row.messages,
  messages_by_role: {
    system: row.system_messages,
    user: row.user_messages,
    assistant: row.assistant_messages,
    tool: row.tool_messages,
  },
  ...mapToAnswerFigures(row),
  sessions: row.sessions,
});

export const mapToModel = (row: FiguresRow & { key: string }): ModelFigures => ({
  model: row.key === "" ? null : row.key,
  ...mapToAnswerFigures(row),
});
