import type { Services } from "./composition/services.ts";
import type { Config } from "./config.ts";
import type { GetClientAddress } from "./http/client-address.ts";
import type { IsAllowedOrigin } from "./http/origin.ts";
import { problemPages } from "./http/problems.ts";
import type { Route } from "./http/route.ts";
import type { Lifecycle } from "./lib/lifecycle.ts";
import type { Log } from "./lib/log.ts";
import { createAnalyticsRoutes } from "./modules/analytics/routes.ts";
import { createApiKeyRoutes } from "./modules/api-keys/routes.ts";
import { createAuditRoutes } from "./modules/audit/routes.ts";
import { createAuthRoutes } from "./modules/auth/routes.ts";
import { createConversationRoutes } from "./modules/conversations/routes.ts";
import { createGuideRoutes } from "./modules/documents/guide-routes.ts";
import { createDocumentRoutes } from "./modules/documents/routes.ts";
import { createExportRoutes } from "./modules/exports/routes.ts";
import { createHealthRoutes } from "./modules/health/routes.ts";
import type { HookEntry } from "./modules/hooks/entry.ts";
import { createHookRoutes } from "./modules/hooks/routes.ts";
import { createImportRoutes } from "./modules/imports/routes.ts";
import { createMeRoutes } from "./modules/me/routes.ts";
import { createAnswerRoutes } from "./modules/messages/answer-routes.ts";
import { createMessageRoutes } from "./modules/messages/routes.ts";
import { createModelRoutes } from "./modules/models/routes.ts";
import { createOpenAiRoutes } from "./modules/openai/routes.ts";
import { createPreviewRoutes } from "./modules/prompts/preview-routes.ts";
import { createPromptRoutes } from "./modules/prompts/routes.ts";
import { createSearchRoutes } from "./modules/search/routes.ts";
import { createSocketRoutes } from "./modules/socket/routes.ts";
import { createUserRoutes } from "./modules/users/routes.ts";
import { createWebhookRoutes } from "./modules/webhooks/routes.ts";

export type RouteDependencies = Services & {
  config: Config;
  lifecycle: Lifecycle;
  log: Log;
  getClientAddress: GetClientAddress;
  isAllowedOrigin: IsAllowedOrigin;
  hookEntry: HookEntry;
};

/** Creates all routes, in the order of the OpenAPI document. */
export const createRoutes = (deps: RouteDependencies): Route[] => [
  ...createHealthRoutes({ health: deps.health, metricsToken: deps.config.METRICS_TOKEN }),
  ...problemPages,
  ...createAuthRoutes(deps),
  ...createMeRoutes(deps),
  ...createUserRoutes(deps),
  ...createAuditRoutes(deps),
  ...createAnalyticsRoutes(deps),
  ...createApiKeyRoutes(deps),
  ...createConversationRoutes(deps),
  ...createMessageRoutes(deps),
  ...createAnswerRoutes(deps),
  ...createSearchRoutes(deps),
  ...createExportRoutes(deps),
  ...createHookRoutes(deps),
  ...createImportRoutes(deps),
  ...createPromptRoutes(deps),
  ...createPreviewRoutes(deps),
  ...createDocumentRoutes(deps),
  ...createGuideRoutes(),
  ...createWebhookRoutes(deps),
  ...createModelRoutes(deps),
  ...createOpenAiRoutes(deps),
  ...createSocketRoutes({
    ...deps,
    identify: deps.auth.identify,
    redeemTicket: deps.auth.redeemTicket,
    slots: deps.limits.sockets,
    isDraining: () => deps.lifecycle.phase === "draining",
  }),
];
