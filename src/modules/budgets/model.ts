import { type Static, Type } from "@sinclair/typebox";
import { Named, Nullable, Timestamp } from "../../lib/schema.ts";

export const BudgetWindow = Named(
  "BudgetWindow",
  Type.Object({
    starts_at: Timestamp(),
    ends_at: Timestamp(),
    spent_tokens: Type.Integer(),
    reserved_tokens: Type.Integer({ description: "For answers that are being written." }),
    limit_tokens: Nullable(Type.Integer({ description: "Null: not limited." })),
    spent_usd: Type.Number({ description: "As far as the prices of the models are known." }),
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
        description: "The same of the API key of this request; null with a session, and where keys are not limited.",
      }),
    },
    { description: "What answers of models have used in this day and this month (UTC), beside the limits." },
  ),
);
export type BudgetUsage = Static<typeof BudgetUsage>;
