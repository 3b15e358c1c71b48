import { type Static, Type } from "@sinclair/typebox";
import { Named } from "../../lib/schema.ts";
import { BudgetUsage } from "../budgets/model.ts";
import { Quotas } from "../quotas/model.ts";

export const AccountUsage = Named(
  "AccountUsage",
  Type.Object(
    { ...BudgetUsage.properties, quotas: Quotas },
    { description: `${BudgetUsage.description} And how much I have stored, with its limits.` },
  ),
);
export type AccountUsage = Static<typeof AccountUsage>;
