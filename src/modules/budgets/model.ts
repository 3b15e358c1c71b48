import { type Static, Type } from "@sinclair/typebox";
import { Named, Nullable, Timestamp } from "../../lib/schema.ts";

export const BudgetWindow = Named(
  "BudgetWindow",
  Type.Object({
    starts_at: Timestamp(),
    ends_at: Timestamp(),
    spent_tokens: Type.Integer(),
    reserved_tokens: Type.Integer({ description: "Reserved for responses in progress." }),
    limit_tokens: Nullable(Type.Integer({ description: "Null if there is no limit." })),
    spent_usd: Type.Number({ description: "Includes only models with known prices." }),
    reserved_usd: Type.Number(),
    limit_usd: Nullable(Type.Number()),
  }),
);
export type BudgetWindow = Static<typeof BudgetWindow>;

const windows = { day: BudgetWindow, month: BudgetWindow };
export const BudgetWindows = Named("BudgetWindows", Type.Object(windows));
export type BudgetWindows = Static<typeof BudgetWindows>;

export const BudgetUsage = Named(
  "BudgetUsage",
  Type.Object(
    {
      ...windows,
      api_key: Nullable(BudgetWindows, {
        description: "The same for this request's API key. Null with a session, or if keys have no limits.",
      }),
    },
    { description: "Tokens and cost of model responses this day and this month (UTC), with the limits." },
  ),
);
export type BudgetUsage = Static<typeof BudgetUsage>;
