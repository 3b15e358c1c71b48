import type { Static, StaticDecode, TSchema } from "@sinclair/typebox";
import type { Server } from "bun";
import type { Context } from "elysia";
import type { Caller } from "../access/caller.ts";
import type { NeededScope } from "../access/scopes.ts";
import type { RouteClass } from "../limits/limits.ts";
import type { ProblemStatus, Tag } from "./openapi.ts";

/**
 * The effect of an `Idempotency-Key`. With `stored`, the response is stored and replayed. With `exact`, the operation itself
 * is also idempotent (by its operation id), so it can run again if its response wasn't stored.
 */
export type IdempotencyMode = "stored" | "exact";

/**
 * Which requests to a route are expensive: all of them (`always`), or only those with a `q` parameter (`search`). A `download` is
 * expensive until its stream ends, and each user may run only one at a time.
 */
export type ExpensiveRead = "always" | "search" | "download";

/** Additional headers of a successful response. */
type ResponseHeader = "Location" | "Content-Disposition" | "Idempotent-Replayed";

type Optional<S> = S extends TSchema ? StaticDecode<S> : undefined;

/** A handler's context, with the inputs validated and decoded by the route's schemas. */
export type RouteContext<P, Q, B> = {
  request: Request;
  server: Server<unknown> | null;
  /** The response's status and headers. The declared status is already set. */
  set: Context["set"];
  params: Optional<P>;
  query: Optional<Q>;
  body: Optional<B>;
};

/** The return value of a handler: the declared body or a complete response. */
// biome-ignore lint/suspicious/noConfusingVoidType: the handler of a response without a body returns nothing.
type HandlerResult<Ok> = Response | (Ok extends TSchema ? Static<Ok> : void);

type Documentation = {
  method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** The path, with `:name` for a parameter and `*` for the rest. */
  path: `/${string}`;
  operationId: string;
  /** A single line. */
  summary: string;
  tag: Tag;
  description?: string;
  /** Status of a successful response. The default is 200, or 204 without `ok`. */
  status?: 200 | 201 | 202 | 204;
  /** Media types of a successful response. The default is JSON. `ok` describes the JSON response; other types are text. */
  mediaTypes?: readonly string[];
  /** Describes the event stream for `Accept: text/event-stream` (under `/v1`: for the field `stream`). */
  stream?: string;
  /** Schema of a stream's events, if they aren't in the AsyncAPI document. */
  streamEvent?: TSchema;
  /** Whether the response has an `ETag`, and is 304 if the client already has this version. */
  isTagged?: true;
  /**
   * Whether `If-Match` is supported. Required on routes that change a resource with an `ETag`. The service checks the tag
   * while the resource is locked (etag.ts).
   */
  supportsIfMatch?: true;
  responseHeaders?: readonly ResponseHeader[];
  /**
   * Error statuses in addition to those that the other properties imply (`listErrorStatuses` in openapi-operation.ts).
   */
  problems?: readonly ProblemStatus[];
  /** Other responses by status. */
  responses?: Record<number, { description: string; content?: Record<string, { schema: object }> } | { $ref: string }>;
  /** Whether the route is omitted from the OpenAPI document. */
  isHidden?: true;
};

type Rules = {
  /** The rate limit that requests count towards. The default is `read` for GET, otherwise `write`. */
  limit?: RouteClass;
  /** The requests that count as expensive. Each user may run only a few concurrently (expensive-reads.ts). */
  expensive?: ExpensiveRead;
  /**
   * The effect of an `Idempotency-Key`. By default, the responses to authenticated POST requests are stored. With `ignored`, the
   * key has no effect, because the route creates nothing.
   */
  idempotencyKey?: "exact" | "ignored";
  /** Whether the body may be as large as 1 MiB instead of 64 KiB. Large bodies are queued (large-bodies.ts). */
  acceptsLargeBody?: true;
  /** Whether the handler reads `request.body` itself, without a size limit. */
  streamsBody?: true;
  /** Whether the response may take minutes. A large body then counts towards the memory limit only until the handler starts. */
  waitsForModel?: true;
};

type Schemas<P, Q, B, Ok> = {
  /** The path parameters. */
  params?: P;
  query?: Q;
  /** The JSON body. An optional body is `Nullable`. */
  body?: B;
  /** Describes a body that the handler parses and validates itself (`getRawBody`). */
  rawBody?: {
    schema: TSchema;
    mediaTypes: readonly string[];
    /** Schema of the same data in `multipart/form-data`. */
    form?: TSchema;
  };
  /** Changes the body before validation. */
  prepareBody?(body: unknown): void;
  /** The body of a successful response. Undefined if the response has no body. */
  ok?: Ok;
};

/** Access without authentication. */
type OpenAccess = { public: true; scope?: undefined; isForAdmins?: undefined };
/** Access for authenticated callers. */
type CallerAccess = {
  /** The scope that an API key needs. */
  scope: NeededScope;
  /** Whether the user must also be an administrator. */
  isForAdmins?: true;
  public?: undefined;
};

type RouteRules = Documentation & Rules & (OpenAccess | CallerAccess);

/** A declared route. Other routes can't be mounted (mount.ts). */
export type Route = RouteRules &
  Schemas<TSchema | undefined, TSchema | undefined, TSchema | undefined, TSchema | undefined> & {
    /** Called only by Elysia, which reads its source code to see which context fields it uses. */
    handle: (context: never) => unknown;
  };

type None = undefined;
type Schema = TSchema | None;

/**
 * Declares a route with its access, limits, schemas, documentation and handler. The handler must be an arrow function that
 * destructures its context, because Elysia reads its source code.
 */
export function route<
  P extends Schema = None,
  Q extends Schema = None,
  B extends Schema = None,
  Ok extends Schema = None,
>(
  declaration: Documentation &
    Rules &
    CallerAccess &
    Schemas<P, Q, B, Ok> & {
      handle: (context: RouteContext<P, Q, B> & { caller: Caller }) => HandlerResult<Ok> | Promise<HandlerResult<Ok>>;
    },
): Route;
export function route<
  P extends Schema = None,
  Q extends Schema = None,
  B extends Schema = None,
  Ok extends Schema = None,
>(
  declaration: Documentation &
    Rules &
    OpenAccess &
    Schemas<P, Q, B, Ok> & {
      handle: (context: RouteContext<P, Q, B>) => HandlerResult<Ok> | Promise<HandlerResult<Ok>>;
    },
): Route;
export function route(declaration: Route): Route {
  return declaration;
}

/** Returns the status of a route's successful response. */
export const getSuccessStatus = ({ status, ok }: Pick<Route, "status" | "ok">): number => status ?? (ok ? 200 : 204);
