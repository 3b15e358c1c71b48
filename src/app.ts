import { Elysia } from "elysia";
import { registerJobs } from "./composition/jobs.ts";
import { createServices, type ServiceDependencies } from "./composition/services.ts";
import { createAccessLog } from "./http/access-log.ts";
import { createAsyncApiRoutes } from "./http/asyncapi/routes.ts";
import { createAuthenticate } from "./http/authenticate.ts";
import { checkAccess } from "./http/check-access.ts";
import { createReadClientAddress } from "./http/client-address.ts";
import { createCors } from "./http/cors.ts";
import { createDocs } from "./http/docs.ts";
import { createErrorHandler, createFindMethods } from "./http/error-handler.ts";
import { createExpensiveReads } from "./http/expensive-reads.ts";
import { createIdempotency } from "./http/idempotency.ts";
import { createLargeBodies } from "./http/large-bodies.ts";
import { mount, requireDeclared, requirePreconditions } from "./http/mount.ts";
import { createOriginPolicy } from "./http/origin.ts";
import { createRateLimit } from "./http/rate-limit.ts";
import { createReadQueue } from "./http/read-queue.ts";
import { logRejectedOrigins } from "./http/rejected-origins.ts";
import { requestId } from "./http/request-id.ts";
import { createSecurityHeaders } from "./http/security-headers.ts";
import { createSlowBodies } from "./http/slow-bodies.ts";
import { createStartGate } from "./http/start-gate.ts";
import { createTraceRequests } from "./http/trace-requests.ts";
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
  const readClientAddress = createReadClientAddress(config.TRUSTED_PROXIES);
  const isAllowedOrigin = logRejectedOrigins(createOriginPolicy(config), log);
  const rateLimit = createRateLimit({ limits, readClientAddress });
  const authenticate = createAuthenticate({ identify: auth.identify, readClientAddress });
  const readQueue = createReadQueue({ limits });
  const expensiveReads = createExpensiveReads({ limits, openStreams });
  const idempotency = createIdempotency({ store: services.idempotency, log });
  const largeBodies = createLargeBodies();
  const hookEntry = createHookEntry({ hooks: services.hooks, limits });
  const documentedRoutes = createRoutes({
    ...services,
    hookEntry,
    config,
    lifecycle,
    log,
    readClientAddress,
    isAllowedOrigin,
  });
  const routes = [...documentedRoutes, ...createDocs(documentedRoutes), ...createAsyncApiRoutes(config)];

  const app = new Elysia({ normalize: false, handler: { standardHostname: false } })
    .use(createTraceRequests({ tracing, continuesTraces: config.TRACE_CONTEXT === "continue" }))
    .use(requestId)
    .use(createAccessLog({ log, metrics, readClientAddress }))
    .use(createSecurityHeaders(config))
    .use(createCors(isAllowedOrigin))
    .use(createStartGate(lifecycle))
    .use(rateLimit.byAddress)
    .onError(createErrorHandler({ log, findMethods: createFindMethods(routes) }))
    .use(
      mount(routes, [
        rateLimit.byRoute,
        authenticate,
        hookEntry.plugin,
        rateLimit.byCaller,
        checkAccess,
        largeBodies,
        createSlowBodies({ hasAccess: auth.hasAccess }),
        idempotency,
        expensiveReads,
        readQueue,
      ]),
    );
  requireDeclared(app, routes);
  requirePreconditions(routes);

  return {
    app: app as unknown as Elysia,
    /** The WebSocket handlers for Bun's server. */
    websocket: sockets.handlers,
    /** Must be called when the server is listening, because pushes use its native topics. */
    attach: hub.attach,
    /** The components to shut down, in order. */
    parts: services.parts,
    /** Starts the background work. Must be called after the database is migrated. */
    async start(): Promise<void> {
      // Until the other instances know about this one, they may use outdated caches.
      await services.bus.waitUntilAnnounced();
      const existing = await users.ensureFirstAdministrator(config);
      if (existing !== null)
        log.warn(
          `ADMIN_EMAIL: the account ${existing} is not an administrator and was not changed; \`parley admin create --email ${existing}\` ` +
            "makes it one and keeps its password.",
        );
      await services.documents.start();
      registerJobs(services, deps);
      services.jobs.start();
    },
  };
}

export type App = ReturnType<typeof createApp>;
