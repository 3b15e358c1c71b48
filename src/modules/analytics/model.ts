import { type Static, Type } from "@sinclair/typebox";
import { PageQuery } from "../../http/pagination.ts";
import { Named, Nullable, OneOf, Timestamp, Uuid } from "../../lib/schema.ts";

const TIME_ZONE_CHARS_MAX = 64;

const TimeRangeQuery = {
  from: Type.Optional(Timestamp({ description: "Start of the time range, inclusive. Default: 7 days before `to`." })),
  to: Type.Optional(Timestamp({ description: "End of the time range, exclusive. Default: now." })),
  time_zone: Type.Optional(
    Type.String({
      maxLength: TIME_ZONE_CHARS_MAX,
      description: "IANA name of the time zone for days and hours, such as `Asia/Kolkata`. Default: `UTC`.",
    }),
  ),
};

const intervals = ["hour", "day"] as const;
export type Interval = (typeof intervals)[number];

export const AnalyticsQuery = Type.Object(TimeRangeQuery);
export const UsageQuery = Type.Object({
  ...TimeRangeQuery,
  interval: Type.Optional(OneOf(intervals, { description: "Width of each bucket. Default: `day`." })),
});
export const UsersQuery = Type.Object({ ...TimeRangeQuery, ...PageQuery });

/** A time range, and the time zone of its days. */
export type TimeRange = { from: Date; to: Date; timeZone: string };

const TimeRangeFields = {
  from: Timestamp(),
  to: Timestamp(),
  time_zone: Type.String(),
  as_of: Timestamp({
    description:
      "The figures include everything stored up to this time: now, or slightly earlier under load. After an upgrade, while messages are still being counted, later messages are missing.",
  }),
};

const createCountSchema = (description?: string) => Type.Integer({ minimum: 0, ...(description && { description }) });

const AnswerFigures = {
  generations: createCountSchema("Model responses that have finished, with any status."),
  failed_generations: createCountSchema(),
  error_rate: Type.Number({ description: "`failed_generations` / `generations`; 0 if there are none." }),
  input_tokens: createCountSchema(),
  output_tokens: createCountSchema(),
  cached_input_tokens: createCountSchema("The part of `input_tokens` read from the providers' caches."),
  reasoning_tokens: createCountSchema("The part of `output_tokens` used for reasoning."),
  cost_usd: Type.Number({ description: "Includes only models with known prices." }),
  first_token_ms: Nullable(Type.Object({ p50: createCountSchema(), p95: createCountSchema() }), {
    description: "Time from the start of a generation to its first text, accurate to 1%. Null if unknown.",
  }),
  feedback: Type.Object(
    { positive: createCountSchema(), negative: createCountSchema() },
    { description: "Ratings of the responses." },
  ),
};

const Figures = {
  active_users: createCountSchema("Distinct users who wrote a message."),
  active_conversations: createCountSchema("Distinct conversations with a new message."),
  messages: createCountSchema(),
  messages_by_role: Type.Object({
    system: createCountSchema(),
    user: createCountSchema(),
    assistant: createCountSchema(),
    tool: createCountSchema(),
  }),
  ...AnswerFigures,
  sessions: createCountSchema("Logins."),
};

export const AnalyticsOverview = Named("AnalyticsOverview", Type.Object({ ...TimeRangeFields, ...Figures }));
export type AnalyticsOverview = Static<typeof AnalyticsOverview>;

const UsagePart = Named(
  "AnalyticsUsagePart",
  Type.Object({
    start: Timestamp({ description: "Start of the hour or day, which may be before `from`." }),
    ...Figures,
  }),
);
export type UsagePart = Static<typeof UsagePart>;
export const AnalyticsUsage = Named(
  "AnalyticsUsage",
  Type.Object({ ...TimeRangeFields, interval: OneOf(intervals), data: Type.Array(UsagePart) }),
);
export type AnalyticsUsage = Static<typeof AnalyticsUsage>;

const ModelFigures = Named(
  "AnalyticsModel",
  Type.Object({
    model: Nullable(Type.String(), { description: "Null if no model was called." }),
    ...AnswerFigures,
  }),
);
export type ModelFigures = Static<typeof ModelFigures>;
export const AnalyticsModels = Named(
  "AnalyticsModels",
  Type.Object({ ...TimeRangeFields, data: Type.Array(ModelFigures) }),
);
export type AnalyticsModels = Static<typeof AnalyticsModels>;

export const UserFigures = Named(
  "AnalyticsUser",
  Type.Object({
    user: Type.Object({ id: Uuid(), email: Type.String(), display_name: Type.String() }),
    messages: createCountSchema("Messages that the user wrote."),
    generations: createCountSchema("Finished responses that the user requested."),
    failed_generations: createCountSchema(),
    input_tokens: createCountSchema(),
    output_tokens: createCountSchema(),
    cost_usd: Type.Number(),
  }),
);
export type UserFigures = Static<typeof UserFigures>;
export const AnalyticsUsers = Named(
  "AnalyticsUsers",
  Type.Object({
    ...TimeRangeFields,
    data: Type.Array(UserFigures),
    next_cursor: Nullable(Type.String(), {
      description: "Send it as `cursor` to get the next page. Null on the last page.",
    }),
  }),
);
