import type { Static, StaticDecode, TSchema } from "@sinclair/typebox";
import type { Server } from "bun";
import type { Context } from "elysia";
import type { Caller } from "../access/caller.ts";
import type { NeededScope } from "../access/scopes.ts";
import type { RouteClass } from "../limits/limits.ts";
import type { ProblemStatus, Tag } from "./openapi.ts";

/**
 * What an `Idempotency-Key` does on a route. `stored`: its answer is kept and given again. `exact`: besides, the operation
 * itself does nothing twice under one operation id, so that it may run again where an answer was not kept.
 */
export type IdempotencyMode = "stored" | "exact";

/**
 * Which requests of a route are expensive: all of them, or those that search with `q`. A download is so until its stream has
 * ended, and a user has one at a time.
 */
export type ExpensiveRead = "always" | "search" | "download";

/** Headers of a good answer that the document names beside those of every answer. */
type AnswerHeader = "Location" | "Content-Disposition" | "Idempotent-Replayed";

type Optional<S> = S extends TSchema ? StaticDecode<S> : undefined;

/** What a handler is given: its inputs, checked and decoded by the schemas of its route. */
export type RouteContext<P, Q, B> = {
  request: Request;
  server: Server<unknown> | null;
  /** Status and headers of the answer. The status of the declaration is set already. */
  set: Context["set"];
  params: Optional<P>;
  query: Optional<Q>;
  body: Optional<B>;
};

/** What a handler may give: what its route says, or a whole response. */
// biome-ignore lint/suspicious/noConfusingVoidType: the handler of an answer without a body returns nothing.
type Answer<Ok> = Response | (Ok extends TSchema ? Static<Ok> : void);

type Documentation = {
  method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** The whole address, with `:name` for a part of it and `*` for the rest of it. */
  path: `/${string}`;
  operationId: string;
  /** One line. */
  summary: string;
  tag: Tag;
  description?: string;
  /** Status of a good answer; 200, or 204 without `ok`. */
  status?: 200 | 201 | 202 | 204;
  /** Media types of `ok`; JSON. `ok` describes the JSON of it, the others are texts. */
  mediaTypes?: readonly string[];
  /** What is streamed to who asks for `text/event-stream` (or, below `/v1`, for `stream`). */
  stream?: string;
  /** Whether the answer has an `ETag`, and is 304 to who has it already. */
  isTagged?: true;
  /**
   * Whether an `If-Match` that names another state is 412: on every change of what has an `ETag` (mount.ts looks). The
   * service checks it under its lock (etag.ts).
   */
  takesIfMatch?: true;
  answerHeaders?: readonly AnswerHeader[];
  /**
   * Error statuses beyond those that follow from the rest (401 and 403 with a credential, 400/413/415 where a body
   * is read, 422 with a body or a query, 404 and 422 with a path parameter, 400 with a cursor, 429 where limits apply, 500 and
   * 503 always).
   */
  problems?: readonly ProblemStatus[];
  /** Answers by status that none of the above describes. */
  responses?: Record<number, { description: string; content?: Record<string, { schema: object }> } | { $ref: string }>;
  /** Not in the document: pages, and what another document describes. */
  isHidden?: true;
};

type Rules = {
  /** What a request counts as; else `read` where it only reads, and `write`. */
  limit?: RouteClass;
  /** An expensive read, of which a user has few at the same time (expensive-reads.ts). */
  expensive?: ExpensiveRead;
  /**
   * What an `Idempotency-Key` does, where it does not just have the answer kept (every POST of the API with a
   * credential): the operation does nothing twice under one id (`exact`), or creates nothing, and the key is `ignored`.
   */
  idempotencyKey?: "exact" | "ignored";
  /** Its body may have more than 64 KiB, up to 1 MiB, and takes its turn then (large-bodies.ts). */
  takesLargeBody?: true;
  /** The handler reads the body itself, as it comes (`request.body`): nothing limits it before. For documents see `rawBody`. */
  streamsBody?: true;
  /** Its answer may take minutes: a large body counts only until the handler begins. */
  waitsForModel?: true;
};

type Schemas<P, Q, B, Ok> = {
  /** Each part of the path that is a `:name`. */
  params?: P;
  query?: Q;
  /** The JSON of the body. `Nullable` where it may be left out. */
  body?: B;
  /** In place of `body`: the handler reads and checks it itself (`getRawBody`); said here is what the document says. */
  rawBody?: {
    schema: TSchema;
    mediaTypes: readonly string[];
    /** Of the same as a form. */
    form?: TSchema;
  };
  /** Changes the body before it is checked. */
  prepareBody?(body: unknown): void;
  /** Body of a good answer; absent when it has none. */
  ok?: Ok;
};

/** Open to everybody. */
type OpenAccess = { public: true; scope?: undefined; isForAdmins?: undefined };
/** For callers with a credential. */
type CallerAccess = {
  /** What an API key must have been allowed. */
  scope: NeededScope;
  /** Whether the user must be an administrator besides. */
  isForAdmins?: true;
  public?: undefined;
};

/** Everything that is said of a route, apart from its handler. */
type RouteRules = Documentation & Rules & (OpenAccess | CallerAccess);

/** A declared route. Only such ones can be mounted (mount.ts). */
export type Route = RouteRules &
  Schemas<TSchema | undefined, TSchema | undefined, TSchema | undefined, TSchema | undefined> & {
    /** Never called from here: the framework compiles it, and reads in its text what it uses. */
    handle: (context: never) => unknown;
  };

type None = undefined;
type Schema = TSchema | None;

/**
 * Declares a route: who may call it, what it counts as, what an `Idempotency-Key` does, its schemas and its
 * documentation, and what handles it. This is the only place where any of that is said. The handler is an arrow function
 * that takes apart its context in its parameter, and does not pass it on whole: the framework reads its text.
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

/** Status of a good answer. */
export const statusOf = ({ status, ok }: Pick<Route, "status" | "ok">): number => status ?? (ok ? 200 : 204);
