import { Elysia } from "elysia";
import type { Authenticate } from "../../http/authenticate.ts";
import { describe } from "../../http/openapi.ts";
import { BudgetUsage } from "./model.ts";
import type { BudgetService } from "./service.ts";

/** `/api/v1/me/usage`. */
export function createBudgetRoutes({ budgets, authenticate }: { budgets: BudgetService; authenticate: Authenticate }) {
  return new Elysia({ name: "budgets", prefix: "/api/v1/me" }).use(authenticate).get(
    "/usage",
    ({ caller }) => budgets.getUsage(caller),
    describe({
      operationId: "getMyUsage",
      scope: "any",
      summary: "What my answers have used, and my limits",
      tag: "me",
      ok: BudgetUsage,
    }),
  );
}
