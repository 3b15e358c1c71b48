import type { Static, StaticDecode, TSchema } from "@sinclair/typebox";
import type { Server } from "bun";
import type { Context } from "elysia";
import type { Caller } from "../access/caller.ts";
import type { NeededScope } from "../access/scopes.ts";
import type { RouteClass } from "../limits/limits.ts";
import type { ProblemStatus, Tag } from "./openapi.ts";

/**
 * What an `Idempotency-Key` does on a route. `stored`: the response is stored and replayed. `exact`: in addition, the operation
 * itself is idempotent by operation id, so it may run again if its response was not stored.
 */
export type IdempotencyMode = "stored" | "exact";

/**
 * Which requests of a route are expensive: all, or those that search with `q`. A download counts until its stream ends, and
 * each user may run one at a time.
 */
export type ExpensiveRead = "always" | "search" | "download";

/** Headers of a successful response, in addition to those of every response. */
type AnswerHeader = "Location" | "Content-Disposition" | "Idempotent-Replayed";

type Optional<S> = S extends TSchema ? StaticDecode<S> : undefined;

/** A handler's context: its inputs, validated and decoded by the route's schemas. */
export type RouteContext<P, Q, B> = {
  request: Request;
  server: Server<unknown> | null;
  /** Status and headers of the response. The declared status is already set. */
  set: Context["set"];
  params: Optional<P>;
  query: Optional<Q>;
  body: Optional<B>;
};

/** What a handler may return: what its route declares, or a complete response. */
// biome-ignore lint/suspicious/noConfusingVoidType: the handler of a response without a body returns nothing.
type Answer<Ok> = Response | (Ok extends TSchema ? Static<Ok> : void);

type Documentation = {
  method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** The full path, with `:name` for a parameter and `*` for the rest. */
  path: `/${string}`;
  operationId: string;
  /** One line. */
  summary: string;
  tag: Tag;
  description?: string;
  /** Status of a successful response; default 200, or 204 without `ok`. */
  status?: 200 | 201 | 202 | 204;
  /** Media types of `ok`; default JSON. `ok` describes the JSON; the others are text. */
  mediaTypes?: readonly string[];
  /** What is streamed with `Accept: text/event-stream` (or, below `/v1`, with `stream`). */
  stream?: string;
  /** The JSON of one event of the stream, if the AsyncAPI document doesn't describe it. */
  streamEvent?: TSchema;
  /** Whether the response has an `ETag`, and is 304 if the client already has this state. */
  isTagged?: true;
  /**
   * Whether an `If-Match` that names another state returns 412. Required on every change of a resource with an `ETag`
   * (mount.ts checks it). The service checks the tag under its lock (etag.ts).
   */
  takesIfMatch?: true;
  answerHeaders?: readonly AnswerHeader[];
  /**
   * Error statuses in addition to those implied by the rest (401, 403 and 409 with a credential, 400/413/415 if a body is read,
   * 422 with a body or a query, 404 and 422 with a path parameter, 400 with a cursor, 429 if rate-limited, 500 and 503 always).
   */
  problems?: readonly ProblemStatus[];
  /** Responses by status that nothing above describes. */
  responses?: Record<number, { description: string; content?: Record<string, { schema: object }> } | { $ref: string }>;
  /** Not in the document: pages, and routes described by another document. */
  isHidden?: true;
};

type Rules = {
  /** The rate limit the route counts towards; default `read` for GET, `write` otherwise. */
  limit?: RouteClass;
  /** An expensive read; each user may run only a few at the same time (expensive-reads.ts). */
  expensive?: ExpensiveRead;
  /**
   * What an `Idempotency-Key` does, if not the default (the response of every authenticated POST is stored): `exact`: the
   * operation itself is idempotent by id; `ignored`: it creates nothing, and the key has no effect.
   */
  idempotencyKey?: "exact" | "ignored";
  /** The body may have up to 1 MiB instead of 64 KiB; large ones are queued (large-bodies.ts). */
  takesLargeBody?: true;
  /** The handler streams the body itself (`request.body`), without a size limit. For the document see `rawBody`. */
  streamsBody?: true;
  /** The response may take minutes: a large body counts only until the handler begins. */
  waitsForModel?: true;
};

type Schemas<P, Q, B, Ok> = {
  /** Every `:name` parameter of the path. */
  params?: P;
  query?: Q;
  /** The JSON body. `Nullable` if it is optional. */
  body?: B;
  /** Instead of `body`: the handler reads and checks it (`getRawBody`). This only describes it in the document. */
  rawBody?: {
    schema: TSchema;
    mediaTypes: readonly string[];
    /** Schema of the same data as a form. */
    form?: TSchema;
  };
  /** Changes the body before validation. */
  prepareBody?(body: unknown): void;
  /** Body of a successful response; absent if it has none. */
  ok?: Ok;
};

/** No authentication needed. */
type OpenAccess = { public: true; scope?: undefined; isForAdmins?: undefined };
/** For callers with a credential. */
type CallerAccess = {
  /** The scope that an API key needs. */
  scope: NeededScope;
  /** Whether the user must also be an administrator. */
  isForAdmins?: true;
  public?: undefined;
};

/** Everything declared about a route except its handler. */
type RouteRules = Documentation & Rules & (OpenAccess | CallerAccess);

/** A declared route. Only declared routes can be mounted (mount.ts). */
export type Route = RouteRules &
  Schemas<TSchema | undefined, TSchema | undefined, TSchema | undefined, TSchema | undefined> & {
    /** Never called from here: Elysia compiles it, and reads its source text to see what it uses. */
    handle: (context: never) => unknown;
  };

type None = undefined;
type Schema = TSchema | None;

/**
 * Declares a route in one place: who may call it, its rate limit, its idempotency, its schemas, its documentation and its
 * handler. The handler is an arrow function that destructures its context in its parameter and doesn't pass it on whole,
 * because Elysia reads its source text.
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
      handle: (context: RouteContext<P, Q, B> & { caller: Caller }) => Answer<Ok> | Promise<Answer<Ok>>;
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
      handle: (context: RouteContext<P, Q, B>) => Answer<Ok> | Promise<Answer<Ok>>;
    },
): Route;
export function route(declaration: Route): Route {
  return declaration;
}

/** Status of a successful response. */
export const statusOf = ({ status, ok }: Pick<Route, "status" | "ok">): number => status ?? (ok ? 200 : 204);
