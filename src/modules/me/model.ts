import { type Static, Type } from "@sinclair/typebox";
import { Named } from "../../lib/schema.ts";
import { BudgetUsage } from "../budgets/model.ts";
import { Quotas } from "../quotas/model.ts";

export const AccountUsage = Named(
  "AccountUsage",
  Type.Object(
    { ...BudgetUsage.properties, quotas: Quotas },
    { description: `${BudgetUsage.description} It also contains the stored amounts and their limits.` },
  ),
);
export type AccountUsage = Static<typeof AccountUsage>;
