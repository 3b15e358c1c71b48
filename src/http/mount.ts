import type { Server } from "bun";
import { type Context, Elysia } from "elysia";
import type { Caller } from "../access/caller.ts";
import { BODY_BYTES_MAX, discardUnread, parseBody, receiveBody, SMALL_BODY_BYTES_MAX, storeRawBody } from "./body.ts";
import { getSuccessStatus, type Route } from "./route.ts";

/** The state of a request before its handler runs. */
export type RequestState = {
  request: Request;
  server: Server<unknown> | null;
  /** The response's headers. */
  headers: Context["set"]["headers"];
  /** Set by the authentication plugin. Undefined on public routes. */
  caller: Caller | undefined;
};

type HandleContext = {
  request: Request;
  body: unknown;
  params: Record<string, string | undefined>;
  caller: Caller;
  set: Context["set"];
};

/** A plugin's hooks for one route. An error thrown by a hook becomes the response. */
type RouteHooks = {
  /** Runs before the body is read. */
  onEnter?(state: RequestState): Promise<void> | void;
  /** Called whenever the body's known size increases. Returning a promise rejects the body (body.ts). */
  onBytes?(request: Request, caller: Caller | undefined, bytes: number): Promise<never> | undefined;
  /** Runs when the whole body has arrived, before it is parsed. */
  onBody?(request: Request): Promise<void> | undefined;
  /** Runs after `onBody` if receiving the body and waiting in the queue took longer than `afterMs`. */
  onSlowBody?: { afterMs: number; check(caller: Caller): Promise<void> };
  /** Runs after validation. A returned response replaces the handler's. */
  beforeHandle?: (context: HandleContext) => Promise<Response | undefined> | undefined;
  /** Runs with the handler's response, or with the response for an error. */
  mapResponse?: (context: HandleContext & { responseValue: unknown }) => Promise<Response> | undefined;
};

/** Returns the hooks for a route, or undefined if the plugin doesn't apply to it. Called once per route. */
export type RoutePlugin = (route: Route) => RouteHooks | undefined;

/** Mounts routes. For each request, the plugins' hooks run in this order before the handler. */
export function mount(routes: readonly Route[], plugins: readonly RoutePlugin[]) {
  const app = new Elysia({ name: "routes" });
  for (const route of routes) {
    // Elysia reads the source code to see which context fields the handler uses.
    if (!/^(?:async\s*)?\(\s*[{)]/.test(String(route.handle)))
      throw new Error(
        `The handler of ${route.method} ${route.path} must be an arrow function that destructures its context.`,
      );
    // The types can't be inferred from a path that isn't a literal. `route()` has checked them.
    app.route(route.method, route.path, route.handle as never, createRouteHooks(route, plugins) as never);
  }
  return app;
}

/** Checks that all routes are declared. @throws Error if the app has an undeclared route, which would be unprotected. */
export function requireDeclaredRoutes(
  app: { routes: readonly { method: string; path: string }[] },
  routes: readonly Route[],
) {
  const declaredRoutes = new Set(routes.map(({ method, path }) => `${method} ${path}`));
  if (declaredRoutes.size !== routes.length) throw new Error("Two routes have the same method and path.");
  for (const { method, path } of app.routes)
    if (!declaredRoutes.has(`${method} ${path}`))
      throw new Error(`${method} ${path} was mounted without a declaration.`);
}

/** Checks that each route that changes a resource with an `ETag` supports `If-Match`. @throws Error if a route doesn't. */
export function requirePreconditions(routes: readonly Route[]) {
  const taggedPaths = new Set(
    routes.filter(({ method, isTagged }) => method === "GET" && isTagged).map(({ path }) => path),
  );
  for (const { method, path, supportsIfMatch } of routes)
    if (["PATCH", "PUT", "DELETE"].includes(method) && taggedPaths.has(path) && !supportsIfMatch)
      throw new Error(`${method} ${path} changes a resource with an ETag, so it must set supportsIfMatch.`);
}

function createRouteHooks(route: Route, plugins: readonly RoutePlugin[]) {
  const hooks = plugins.flatMap((plugin) => plugin(route) ?? []);
  const enterSteps = hooks.flatMap(({ onEnter }) => onEnter ?? []);
  const byteSteps = hooks.flatMap(({ onBytes }) => onBytes ?? []);
  const bodySteps = hooks.flatMap(({ onBody }) => onBody ?? []);
  const slowSteps = hooks.flatMap(({ onSlowBody }) => onSlowBody ?? []);
  const bodyBytesMax = route.acceptsLargeBody ? BODY_BYTES_MAX : SMALL_BODY_BYTES_MAX;
  const status = getSuccessStatus(route);

  /** Runs the `onEnter` hooks. Accepts individual fields, because Elysia would fill in all fields of a context that is passed. */
  async function enter(request: Request, server: Server<unknown> | null, set: Context["set"]) {
    set.status = status;
    const state: RequestState = { request, server, headers: set.headers, caller: undefined };
    for (const step of enterSteps) {
      const pending = step(state);
      if (pending) await pending;
    }
    return state.caller;
  }

  type EntryContext = Pick<Context, "request" | "server" | "set" | "path">;
  const entryHooks =
    route.method === "GET"
      ? {
          transform: async ({ request, server, set }: EntryContext) => ({ caller: await enter(request, server, set) }),
        }
      : {
          // Runs for all requests that can have a body, even if the route doesn't declare one.
          parse: async ({ request, server, set, path }: EntryContext) => {
            const caller = await enter(request, server, set);
            if (route.streamsBody) return { caller, body: null };
            const enteredAtMs = performance.now();
            const receivedBody = await receiveBody(request, bodyBytesMax, (bytes) => {
              for (const step of byteSteps) {
                const rejection = step(request, caller, bytes);
                if (rejection) return rejection;
              }
              return undefined;
            });
            for (const step of bodySteps) {
              const pending = step(request);
              if (pending) await pending;
            }
            if (caller)
              for (const { afterMs, check } of slowSteps)
                if (performance.now() - enteredAtMs > afterMs) await check(caller);
            if (route.rawBody) {
              storeRawBody(request, receivedBody);
              return { caller, body: null };
            }
            const body = parseBody(receivedBody, request.headers, path);
            route.prepareBody?.(body);
            return { caller, body };
          },
          // Merges `caller` and `body` into the context, where the schemas validate the body.
          transform: ({ body }: { body: unknown }) => body,
        };

  return {
    ...(enterSteps.length > 0 || status !== 200 || route.method !== "GET" ? entryHooks : {}),
    ...(route.params && { params: route.params }),
    ...(route.query && { query: route.query }),
    ...(route.body && { body: route.body }),
    beforeHandle: hooks.flatMap(({ beforeHandle }) => beforeHandle ?? []),
    mapResponse: [
      ...hooks.flatMap(({ mapResponse }) => mapResponse ?? []),
      // Runs for error responses too, where the body is still unread.
      ...(route.streamsBody ? [({ request }: HandleContext) => discardUnread(request)] : []),
    ],
  };
}
