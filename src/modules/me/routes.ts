import type { Route } from "../../http/route.ts";
import type { Log } from "../../lib/log.ts";
import type { AccountService } from "../accounts/service.ts";
import type { AuthService } from "../auth/service.ts";
import type { BudgetService } from "../budgets/service.ts";
import type { QuotaService } from "../quotas/service.ts";
import type { UserService } from "../users/service.ts";
import { createAccountRoutes } from "./account-routes.ts";
import { createIdentityRoutes } from "./identity-routes.ts";
import { createProfileRoutes } from "./profile-routes.ts";
import { createSessionRoutes } from "./session-routes.ts";

type Dependencies = {
  users: UserService;
  accounts: AccountService;
  auth: AuthService;
  budgets: BudgetService;
  quotas: QuotaService;
  log: Log;
};

/** Creates the routes under `/api/v1/me`. They concern only the caller. */
export const createMeRoutes = (deps: Dependencies): Route[] => [
  ...createProfileRoutes(deps),
  ...createSessionRoutes(deps),
  ...createIdentityRoutes(deps),
  ...createAccountRoutes(deps),
];
