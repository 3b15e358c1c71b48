import { Elysia } from "elysia";
import { registerJobs } from "./composition/jobs.ts";
import { createServices, type ServiceDependencies } from "./composition/services.ts";
import { createAccessLog } from "./http/access-log.ts";
import { createAuthenticate } from "./http/authenticate.ts";
import { jsonBody } from "./http/body.ts";
import { createReadClientAddress } from "./http/client-address.ts";
import { createCors } from "./http/cors.ts";
import { createDocs } from "./http/docs.ts";
import { createErrorHandler, createFindMethods } from "./http/error-handler.ts";
import { createFindLimit } from "./http/find-limit.ts";
import { createFindScope } from "./http/find-scope.ts";
import { createStartGate } from "./http/gate.ts";
import { createIdempotency } from "./http/idempotency.ts";
import { createFindIdempotencyMode } from "./http/idempotency-mode.ts";
import { createOriginPolicy } from "./http/origin.ts";
import { problemPages } from "./http/problems.ts";
import { createRateLimit } from "./http/rate-limit.ts";
import { requestId } from "./http/request-id.ts";
import type { DeclaredRoute } from "./http/route-index.ts";
import { createSecurityHeaders } from "./http/security-headers.ts";
import { createAccountRoutes } from "./modules/accounts/routes.ts";
import { createApiKeyRoutes } from "./modules/api-keys/routes.ts";
import { createAuditRoutes } from "./modules/audit/routes.ts";
import { createAuthRoutes } from "./modules/auth/routes.ts";
import { createBudgetRoutes } from "./modules/budgets/routes.ts";
import { createConversationRoutes } from "./modules/conversations/routes.ts";
import { createDocumentRoutes } from "./modules/documents/routes.ts";
import { createPreviewRoutes } from "./modules/generations/preview-routes.ts";
import { createGenerationRoutes } from "./modules/generations/routes.ts";
import { createHealthRoutes } from "./modules/health/routes.ts";
import { createMessageRoutes } from "./modules/messages/routes.ts";
import { createOpenAiRoutes } from "./modules/openai/routes.ts";
import { createPromptRoutes } from "./modules/prompts/routes.ts";
import { createSocketRoutes } from "./modules/socket/routes.ts";
import { createUserRoutes } from "./modules/users/routes.ts";

export type AppDependencies = ServiceDependencies;

/** The composition root: mounts the plugins in the order in which requests meet them. It does not listen. */
export function createApp(deps: AppDependencies) {
  const { config, log, metrics, lifecycle } = deps;
  const services = createServices(deps);
  const { auth, users, sockets, hub } = services;
  const readClientAddress = createReadClientAddress(config.TRUSTED_PROXIES);
  const isAllowedOrigin = createOriginPolicy(config);
  // Asked when the app is complete; it cannot be named before it is built.
  const routes: { list(): DeclaredRoute[] } = { list: () => [] };
  const findScope = createFindScope(() => routes.list());
  const findMode = createFindIdempotencyMode(() => routes.list());
  const idempotency = createIdempotency({ store: services.idempotency, findMode, log });
  const findLimit = createFindLimit(() => routes.list());
  const { limits } = services;
  const rateLimit = createRateLimit({ limits, findLimit, readClientAddress });
  const { identify } = auth;
  const { countRequest } = rateLimit;
  const authenticate = createAuthenticate({ identify, findScope, readClientAddress, idempotency, countRequest });

  const app = new Elysia({ normalize: false, handler: { standardHostname: false } })
    .use(requestId)
    .use(createAccessLog({ log, metrics }))
    .use(createSecurityHeaders(config))
    .use(createCors(isAllowedOrigin))
    .use(createStartGate(lifecycle))
    .use(rateLimit.byAddress)
    .onError(createErrorHandler({ log, findMethods: createFindMethods(() => routes.list()) }))
    .use(jsonBody)
    .use(createHealthRoutes({ health: services.health, metricsToken: config.METRICS_TOKEN }))
    .use(problemPages)
    .use(createAuthRoutes({ auth, authenticate, readClientAddress, limitRoute: rateLimit.ofRoute }))
    .use(createUserRoutes({ users, authenticate }))
    .use(createApiKeyRoutes({ ...services, authenticate }))
    .use(createBudgetRoutes({ ...services, authenticate }))
    .use(createConversationRoutes({ ...services, authenticate }))
    .use(createMessageRoutes({ ...services, authenticate }))
    .use(createGenerationRoutes({ ...services, authenticate }))
    .use(createPromptRoutes({ ...services, authenticate }))
    .use(createPreviewRoutes({ ...services, authenticate }))
    .use(createDocumentRoutes({ ...services, authenticate }))
    .use(createOpenAiRoutes({ ...services, authenticate }))
    .use(createAccountRoutes({ ...services, authenticate, log }))
    .use(createAuditRoutes({ ...services, authenticate }))
    .use(
      createSocketRoutes({
        identify: auth.identify,
        redeemTicket: auth.redeemTicket,
        readClientAddress,
        isAllowedOrigin,
        places: limits.sockets,
        isDraining: () => lifecycle.phase === "draining",
      }),
    )
    .use(createDocs({ serverUrl: config.PUBLIC_URL ?? "/", listRoutes: () => routes.list() }));
  routes.list = () =>
    app.routes.map(({ method, path, hooks }) => ({ method, path, detail: hooks?.detail as object | undefined }));

  return {
    app: app as unknown as Elysia,
    /** For the runtime, where the app listens. */
    websocket: sockets.handlers,
    /** Call it once the server listens: pushes go through its native topics. */
    attach: hub.attach,
    /** What has to be stopped, in order. */
    parts: services.parts,
    /** Call it once the database is migrated: starts what runs by itself. */
    async start(): Promise<void> {
      await users.ensureFirstAdministrator(config);
      await services.documents.start(services.stopping);
      registerJobs(services, deps);
      services.jobs.start();
    },
  };
}

export type App = ReturnType<typeof createApp>;
