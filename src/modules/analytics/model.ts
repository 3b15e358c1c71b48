import { type Static, Type } from "@sinclair/typebox";
import { PageQuery } from "../../http/pagination.ts";
import { Named, Nullable, OneOf, Timestamp, Uuid } from "../../lib/schema.ts";

const TIME_ZONE_CHARS_MAX = 64;

const SpanQuery = {
  from: Type.Optional(Timestamp({ description: "Start of the span, inclusive; absent: 7 days before `to`." })),
  to: Type.Optional(Timestamp({ description: "End of the span, exclusive; absent: now." })),
  time_zone: Type.Optional(
    Type.String({
      maxLength: TIME_ZONE_CHARS_MAX,
      description: "IANA name of the time zone of days and hours, such as `Asia/Kolkata`; absent: `UTC`.",
    }),
  ),
};

const intervals = ["hour", "day"] as const;
export type Interval = (typeof intervals)[number];

export const AnalyticsQuery = Type.Object(SpanQuery);
export const UsageQuery = Type.Object({
  ...SpanQuery,
  interval: Type.Optional(OneOf(intervals, { description: "Width of the parts; absent: `day`." })),
});
export const UsersQuery = Type.Object({ ...SpanQuery, ...PageQuery });

/** A part of time, and the time zone of its days. */
export type Span = { from: Date; to: Date; timeZone: string };

const SpanFields = {
  from: Timestamp(),
  to: Timestamp(),
  time_zone: Type.String(),
  as_of: Timestamp({
    description:
      "The figures show what was stored at this time: now, or a little earlier under load. After an upgrade, while messages are still being counted, those after it are missing.",
  }),
};

const count = (description?: string) => Type.Integer({ minimum: 0, ...(description && { description }) });

const AnswerFigures = {
  generations: count("Answers of models that have ended, whatever their status."),
  failed_generations: count(),
  error_rate: Type.Number({ description: "`failed_generations` / `generations`; 0 without generations." }),
  input_tokens: count(),
  output_tokens: count(),
  cached_input_tokens: count("The part of `input_tokens` that was read from the providers' caches."),
  reasoning_tokens: count("The part of `output_tokens` that was reasoning."),
  cost_usd: Type.Number({ description: "As far as prices are known." }),
  first_token_ms: Nullable(Type.Object({ p50: count(), p95: count() }), {
    description: "From the beginning of a generation to its first text, within 1 %; null where none is known.",
  }),
  feedback: Type.Object({ positive: count(), negative: count() }, { description: "Ratings of the answers." }),
};

const Figures = {
  active_users: count("Different users who wrote something."),
  active_conversations: count("Different conversations in which something was written."),
  messages: count(),
  messages_by_role: Type.Object({ system: count(), user: count(), assistant: count(), tool: count() }),
  ...AnswerFigures,
  sessions: count("Logins."),
};

export const AnalyticsOverview = Named("AnalyticsOverview", Type.Object({ ...SpanFields, ...Figures }));
export type AnalyticsOverview = Static<typeof AnalyticsOverview>;

const UsagePart = Named(
  "AnalyticsUsagePart",
  Type.Object({
    start: Timestamp({ description: "The beginning of the hour or day, which may be before `from`." }),
    ...Figures,
  }),
);
export type UsagePart = Static<typeof UsagePart>;
export const AnalyticsUsage = Named(
  "AnalyticsUsage",
  Type.Object({ ...SpanFields, interval: OneOf(intervals), data: Type.Array(UsagePart) }),
);
export type AnalyticsUsage = Static<typeof AnalyticsUsage>;

const ModelFigures = Named(
  "AnalyticsModel",
  Type.Object({
    model: Nullable(Type.String(), { description: "Null: no model was asked." }),
    ...AnswerFigures,
  }),
);
export type ModelFigures = Static<typeof ModelFigures>;
export const AnalyticsModels = Named("AnalyticsModels", Type.Object({ ...SpanFields, data: Type.Array(ModelFigures) }));
export type AnalyticsModels = Static<typeof AnalyticsModels>;

export const UserFigures = Named(
  "AnalyticsUser",
  Type.Object({
    user: Type.Object({ id: Uuid(), email: Type.String(), display_name: Type.String() }),
    messages: count("Messages that the user wrote."),
    generations: count("Answers that the user asked for, and that have ended."),
    failed_generations: count(),
    input_tokens: count(),
    output_tokens: count(),
    cost_usd: Type.Number(),
  }),
);
export type UserFigures = Static<typeof UserFigures>;
export const AnalyticsUsers = Named(
  "AnalyticsUsers",
  Type.Object({
    ...SpanFields,
    data: Type.Array(UserFigures),
    next_cursor: Nullable(Type.String(), { description: "Send it as `cursor` for the next page; null on the last." }),
  }),
);
