import { Elysia } from "elysia";
import { registerJobs } from "./composition/jobs.ts";
import { createServices, type ServiceDependencies } from "./composition/services.ts";
import { createAccessLogPlugin } from "./http/access-log.ts";
import { createAsyncApiRoutes } from "./http/asyncapi/routes.ts";
import { createAuthenticationPlugin } from "./http/authenticate.ts";
import { checkAccess } from "./http/check-access.ts";
import { createClientAddressLookup } from "./http/client-address.ts";
import { createCorsPlugin } from "./http/cors.ts";
import { createDocsRoutes } from "./http/docs.ts";
import { createErrorHandler, createMethodFinder } from "./http/error-handler.ts";
import { createExpensiveReadLimiter } from "./http/expensive-reads.ts";
import { createIdempotencyPlugin } from "./http/idempotency.ts";
import { createLargeBodyScheduler } from "./http/large-bodies.ts";
import { mount, requireDeclaredRoutes, requirePreconditions } from "./http/mount.ts";
import { createOriginPolicy } from "./http/origin.ts";
import { createRateLimitPlugins } from "./http/rate-limit.ts";
import { createReadQueue } from "./http/read-queue.ts";
import { logRejectedOrigins } from "./http/rejected-origins.ts";
import { requestIdPlugin } from "./http/request-id.ts";
import { createSecurityHeadersPlugin } from "./http/security-headers.ts";
import { createSlowBodyCheck } from "./http/slow-bodies.ts";
import { createStartGate } from "./http/start-gate.ts";
import { createTracingPlugin } from "./http/trace-requests.ts";
import { createHookEntry } from "./modules/hooks/entry.ts";
import { createRoutes } from "./routes.ts";

export type AppDependencies = ServiceDependencies;

/**
 * Creates the app from its plugins, in the order in which they run, and the routes (routes.ts). It doesn't listen yet.
 */
export function createApp(deps: AppDependencies) {
  const { config, log, metrics, lifecycle, tracing = null } = deps;
  const services = createServices(deps);
  const { auth, users, sockets, hub, limits, openStreams } = services;
  const getClientAddress = createClientAddressLookup(config.TRUSTED_PROXIES);
  const isAllowedOrigin = logRejectedOrigins(createOriginPolicy(config), log);
  const rateLimit = createRateLimitPlugins({ limits, getClientAddress });
  const authenticate = createAuthenticationPlugin({ identify: auth.identify, getClientAddress });
  const readQueue = createReadQueue({ limits });
  const expensiveReads = createExpensiveReadLimiter({ limits, openStreams });
  const idempotency = createIdempotencyPlugin({ store: services.idempotency, log });
  const largeBodies = createLargeBodyScheduler();
  const hookEntry = createHookEntry({ hooks: services.hooks, limits });
  const documentedRoutes = createRoutes({
    ...services,
    hookEntry,
    config,
    lifecycle,
    log,
    getClientAddress,
    isAllowedOrigin,
  });
  const routes = [...documentedRoutes, ...createDocsRoutes(documentedRoutes), ...createAsyncApiRoutes(config)];

  const app = new Elysia({ normalize: false, handler: { standardHostname: false } })
    .use(createTracingPlugin({ tracing, shouldContinueTraces: config.TRACE_CONTEXT === "continue" }))
    .use(requestIdPlugin)
    .use(createAccessLogPlugin({ log, metrics, getClientAddress }))
    .use(createSecurityHeadersPlugin(config))
    .use(createCorsPlugin(isAllowedOrigin))
    .use(createStartGate(lifecycle))
    .use(rateLimit.limitByAddress)
    .onError(createErrorHandler({ log, findMethods: createMethodFinder(routes) }))
    .use(
      mount(routes, [
        rateLimit.byRoute,
        authenticate,
        hookEntry.plugin,
        rateLimit.byCaller,
        checkAccess,
        largeBodies,
        createSlowBodyCheck({ hasAccess: auth.hasAccess }),
        idempotency,
        expensiveReads,
        readQueue,
      ]),
    );
  requireDeclaredRoutes(app, routes);
  requirePreconditions(routes);

  return {
    app: app as unknown as Elysia,
    /** The WebSocket handlers for Bun's server. */
    websocket: sockets.handlers,
    /** Must be called when the server is listening, because pushes use its native topics. */
    attach: hub.attach,
    /** The components to shut down, in order. */
    components: services.components,
    /** Starts the background work. Must be called after the database is migrated. */
    async start(): Promise<void> {
      // Until the other instances know about this one, they may use outdated caches.
      await services.bus.waitUntilAnnounced();
      const existingEmail = await users.ensureFirstAdministrator(config);
      if (existingEmail !== null)
        log.warn(
          `ADMIN_EMAIL: the account ${existingEmail} is not an administrator and was not changed; \`parley admin create --email ${existingEmail}\` ` +
            "makes it one and keeps its password.",
        );
      await services.documents.start();
      registerJobs(services, deps);
      services.jobs.start();
    },
  };
}

export type App = ReturnType<typeof createApp>;
