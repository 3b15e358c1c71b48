import { type Static, Type } from "@sinclair/typebox";
import { Nullable, Timestamp } from "../../lib/schema.ts";

export const BudgetWindow = Type.Object({
  starts_at: Timestamp(),
  ends_at: Timestamp(),
  spent_tokens: Type.Integer(),
  reserved_tokens: Type.Integer({ description: "For answers that are being written." }),
  limit_tokens: Nullable(Type.Integer({ description: "Null: not limited." })),
  spent_usd: Type.Number({ description: "As far as the prices of the models are known." }),
  reserved_usd: Type.Number(),
  limit_usd: Nullable(Type.Number()),
});
export type BudgetWindow = Static<typeof BudgetWindow>;

export const BudgetUsage = Type.Object(
  { day: BudgetWindow, month: BudgetWindow },
  { description: "What answers of models have used in this day and this month (UTC), beside the limits." },
);
export type BudgetUsage = Static<typeof BudgetUsage>;
