import { type Route, route } from "../../http/route.ts";
import { BudgetUsage } from "./model.ts";
import type { BudgetService } from "./service.ts";

/** `/api/v1/me/usage`. */
export const createBudgetRoutes = ({ budgets }: { budgets: BudgetService }): Route[] => [
  route({
    method: "GET",
    path: "/api/v1/me/usage",
    operationId: "getMyUsage",
    summary: "What my answers have used, and my limits",
    tag: "me",
    scope: "any",
    ok: BudgetUsage,
    handle: ({ caller }) => budgets.getUsage(caller),
  }),
];
