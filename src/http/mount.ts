import type { Server } from "bun";
import { type Context, Elysia } from "elysia";
import type { Caller } from "../access/caller.ts";
import { BODY_BYTES_MAX, dropUnread, keepRawBody, parseBody, receiveBody, SMALL_BODY_BYTES_MAX } from "./body.ts";
import { type Route, statusOf } from "./route.ts";

/** A request on its way to its handler. */
export type Visit = {
  request: Request;
  server: Server<unknown> | null;
  /** Headers of the answer. */
  headers: Context["set"]["headers"];
  /** Set by the plugin that finds out who calls; undefined on a public route. */
  caller: Caller | undefined;
};

type HandleContext = {
  request: Request;
  body: unknown;
  params: Record<string, string | undefined>;
  caller: Caller;
  set: Context["set"];
};

/** What a plugin does with the requests of one route; whatever it throws is their answer. */
type RouteHooks = {
  /** Before anything of the body is read. */
  onEnter?(visit: Visit): Promise<void> | void;
  /** With how many bytes the body has, as far as is known; again when there are more. A promise refuses it (body.ts). */
  onBytes?(request: Request, caller: Caller | undefined, bytes: number): Promise<never> | undefined;
  /** When all of them are, before they are parsed. */
  onBody?(request: Request): Promise<void> | undefined;
  /** When all of them are, and have had their turn, if that took longer than `afterMs`. */
  onSlowBody?: { afterMs: number; check(caller: Caller): Promise<void> };
  /** When the inputs have been checked. A response takes the place of the handler's. */
  beforeHandle?: (context: HandleContext) => Promise<Response | undefined> | undefined;
  /** When there is an answer, of the handler or of an error. */
  mapResponse?: (context: HandleContext & { responseValue: unknown }) => Promise<Response> | undefined;
};

/** Asked for its hooks once for each route, when the routes are mounted; undefined where it has nothing to do. */
export type RoutePlugin = (route: Route) => RouteHooks | undefined;

/** Mounts declared routes: each of their requests meets the plugins in this order, then the handler. */
export function mount(routes: readonly Route[], plugins: readonly RoutePlugin[]) {
  const app = new Elysia({ name: "routes" });
  for (const route of routes) {
    // The framework would not see what the handler uses, and leave it out of its context, or fill all of it.
    if (!/^(?:async\s*)?\(\s*[{)]/.test(String(route.handle)))
      throw new Error(
        `The handler of ${route.method} ${route.path} is not an arrow function that takes apart its context.`,
      );
    // The types of an address that is only known at run time say nothing; `route()` has checked them.
    app.route(route.method, route.path, route.handle as never, createHooks(route, plugins) as never);
  }
  return app;
}

/** @throws Error unless every route of the app was declared: without a declaration nobody would guard it. */
export function requireDeclared(
  app: { routes: readonly { method: string; path: string }[] },
  routes: readonly Route[],
) {
  const declared = new Set(routes.map(({ method, path }) => `${method} ${path}`));
  if (declared.size !== routes.length) throw new Error("Two routes have the same method and path.");
  for (const { method, path } of app.routes)
    if (!declared.has(`${method} ${path}`)) throw new Error(`${method} ${path} was mounted without a declaration.`);
}

/** @throws Error unless every change of an address whose read has an `ETag` takes `If-Match`. */
export function requirePreconditions(routes: readonly Route[]) {
  const tagged = new Set(routes.filter(({ method, isTagged }) => method === "GET" && isTagged).map(({ path }) => path));
  for (const { method, path, takesIfMatch } of routes)
    if (["PATCH", "PUT", "DELETE"].includes(method) && tagged.has(path) && !takesIfMatch)
      throw new Error(`${method} ${path} changes what has an ETag, but does not take If-Match.`);
}

function createHooks(route: Route, plugins: readonly RoutePlugin[]) {
  const hooks = plugins.flatMap((plugin) => plugin(route) ?? []);
  const steps = hooks.flatMap(({ onEnter }) => onEnter ?? []);
  const byteSteps = hooks.flatMap(({ onBytes }) => onBytes ?? []);
  const bodySteps = hooks.flatMap(({ onBody }) => onBody ?? []);
  const slowSteps = hooks.flatMap(({ onSlowBody }) => onSlowBody ?? []);
  const bodyBytesMax = route.takesLargeBody ? BODY_BYTES_MAX : SMALL_BODY_BYTES_MAX;
  const status = statusOf(route);

  /** The way in, up to the body. The context is taken apart: passed on whole, the framework would fill all of it. */
  async function enter(request: Request, server: Server<unknown> | null, set: Context["set"]) {
    set.status = status;
    const visit: Visit = { request, server, headers: set.headers, caller: undefined };
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
          // Runs for every request that may have a body, also where a route takes none.
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
          // What was parsed becomes part of the context, from where the schemas take the body.
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
      // Also called with the answer to an error, such as a query that is not valid: then nobody has read the body.
      ...(route.streamsBody ? [({ request }: HandleContext) => dropUnread(request)] : []),
    ],
  };
}
