import { type Static, Type } from "@sinclair/typebox";
import { Named } from "../../lib/schema.ts";
import { BudgetUsage } from "../budgets/model.ts";
import { Quotas } from "../quotas/model.ts";

export const Usage = Named(
  "Usage",
  Type.Object(
    { ...BudgetUsage.properties, quotas: Quotas },
    { description: `${BudgetUsage.description} And how much I have stored, with its limits.` },
  ),
);
export type Usage = Static<typeof Usage>;
