import type { Server } from "bun";
import { type Context, Elysia } from "elysia";
import type { Caller } from "../access/caller.ts";
import { BODY_BYTES_MAX, dropUnread, keepRawBody, parseBody, receiveBody, SMALL_BODY_BYTES_MAX } from "./body.ts";
import { type Route, statusOf } from "./route.ts";

/** A request on its way to its handler. */
export type RequestState = {
  request: Request;
  server: Server<unknown> | null;
  /** Headers of the response. */
  headers: Context["set"]["headers"];
  /** Set by the authentication plugin; undefined on a public route. */
  caller: Caller | undefined;
};

type HandleContext = {
  request: Request;
  body: unknown;
  params: Record<string, string | undefined>;
  caller: Caller;
  set: Context["set"];
};

/** What a plugin does with the requests of one route; anything thrown becomes the response. */
type RouteHooks = {
  /** Runs before the body is read. */
  onEnter?(visit: RequestState): Promise<void> | void;
  /** Receives the body's known size, and again whenever more bytes arrive. A returned promise refuses the body (body.ts). */
  onBytes?(request: Request, caller: Caller | undefined, bytes: number): Promise<never> | undefined;
  /** Runs when the whole body has arrived, before it is parsed. */
  onBody?(request: Request): Promise<void> | undefined;
  /** Runs after `onBody` if receiving and queueing took longer than `afterMs`. */
  onSlowBody?: { afterMs: number; check(caller: Caller): Promise<void> };
  /** Runs after validation. A returned response replaces the handler's. */
  beforeHandle?: (context: HandleContext) => Promise<Response | undefined> | undefined;
  /** Runs with the response of the handler or of an error. */
  mapResponse?: (context: HandleContext & { responseValue: unknown }) => Promise<Response> | undefined;
};

/** Called once for each route, when the routes are mounted; returns undefined where the plugin has nothing to do. */
export type RoutePlugin = (route: Route) => RouteHooks | undefined;

/** Mounts declared routes: each request runs through the plugins in this order, then through the handler. */
export function mount(routes: readonly Route[], plugins: readonly RoutePlugin[]) {
  const app = new Elysia({ name: "routes" });
  for (const route of routes) {
    // Otherwise Elysia can't tell which context fields the handler uses, and omits them or fills all of them.
    if (!/^(?:async\s*)?\(\s*[{)]/.test(String(route.handle)))
      throw new Error(
        `The handler of ${route.method} ${route.path} must be an arrow function that destructures its context.`,
      );
    // Types say nothing about paths that are known only at run time; `route()` has checked them.
    app.route(route.method, route.path, route.handle as never, createHooks(route, plugins) as never);
  }
  return app;
}

/** @throws Error unless every route of the app was declared: an undeclared route would be unprotected. */
export function requireDeclared(
  app: { routes: readonly { method: string; path: string }[] },
  routes: readonly Route[],
) {
  const declared = new Set(routes.map(({ method, path }) => `${method} ${path}`));
  if (declared.size !== routes.length) throw new Error("Two routes have the same method and path.");
  for (const { method, path } of app.routes)
    if (!declared.has(`${method} ${path}`)) throw new Error(`${method} ${path} was mounted without a declaration.`);
}

/** @throws Error unless every change to a path whose GET has an `ETag` takes `If-Match`. */
export function requirePreconditions(routes: readonly Route[]) {
  const tagged = new Set(routes.filter(({ method, isTagged }) => method === "GET" && isTagged).map(({ path }) => path));
  for (const { method, path, takesIfMatch } of routes)
    if (["PATCH", "PUT", "DELETE"].includes(method) && tagged.has(path) && !takesIfMatch)
      throw new Error(`${method} ${path} changes a resource with an ETag, so it must set takesIfMatch.`);
}

function createHooks(route: Route, plugins: readonly RoutePlugin[]) {
  const hooks = plugins.flatMap((plugin) => plugin(route) ?? []);
  const steps = hooks.flatMap(({ onEnter }) => onEnter ?? []);
  const byteSteps = hooks.flatMap(({ onBytes }) => onBytes ?? []);
  const bodySteps = hooks.flatMap(({ onBody }) => onBody ?? []);
  const slowSteps = hooks.flatMap(({ onSlowBody }) => onSlowBody ?? []);
  const bodyBytesMax = route.takesLargeBody ? BODY_BYTES_MAX : SMALL_BODY_BYTES_MAX;
  const status = statusOf(route);

  /** Runs the request up to the body. Destructured, because Elysia would fill the whole context if it were passed on. */
  async function enter(request: Request, server: Server<unknown> | null, set: Context["set"]) {
    set.status = status;
    const visit: RequestState = { request, server, headers: set.headers, caller: undefined };
    for (const step of steps) {
      const waiting = step(visit);
      if (waiting) await waiting;
    }
    return visit.caller;
  }

  type Entered = Pick<Context, "request" | "server" | "set" | "path">;
  const wayIn =
    route.method === "GET"
      ? {
          transform: async ({ request, server, set }: Entered) => ({ caller: await enter(request, server, set) }),
        }
      : {
          // Runs for every request that may have a body, even if the route declares none.
          parse: async ({ request, server, set, path }: Entered) => {
            const caller = await enter(request, server, set);
            if (route.streamsBody) return { caller, body: null };
            const enteredAtMs = performance.now();
            const received = await receiveBody(request, bodyBytesMax, (bytes) => {
              for (const step of byteSteps) {
                const refusal = step(request, caller, bytes);
                if (refusal) return refusal;
              }
              return undefined;
            });
            for (const step of bodySteps) {
              const waiting = step(request);
              if (waiting) await waiting;
            }
            if (caller)
              for (const { afterMs, check } of slowSteps)
                if (performance.now() - enteredAtMs > afterMs) await check(caller);
            if (route.rawBody) {
              keepRawBody(request, received);
              return { caller, body: null };
            }
            const body = parseBody(received, request.headers, path);
            route.prepareBody?.(body);
            return { caller, body };
          },
          // Merges the parsed body into the context, where the schemas read it.
          transform: ({ body }: { body: unknown }) => body,
        };

  return {
    ...(steps.length > 0 || status !== 200 || route.method !== "GET" ? wayIn : {}),
    ...(route.params && { params: route.params }),
    ...(route.query && { query: route.query }),
    ...(route.body && { body: route.body }),
    beforeHandle: hooks.flatMap(({ beforeHandle }) => beforeHandle ?? []),
    mapResponse: [
      ...hooks.flatMap(({ mapResponse }) => mapResponse ?? []),
      // Also called for error responses, such as an invalid query, where the body is still unread.
      ...(route.streamsBody ? [({ request }: HandleContext) => dropUnread(request)] : []),
    ],
  };
}
