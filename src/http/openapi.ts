import { type TSchema, Type } from "@sinclair/typebox";
import type { DocumentDecoration } from "elysia";
import type { NeededScope } from "../access/scopes.ts";
import type { RouteClass } from "../limits/limits.ts";

/** Names of the groups in the OpenAPI document, in its order. */
export const tags = {
  auth: "Registration, login and tokens.",
  me: "The caller's own account.",
  users: "All accounts, for administrators.",
  audit: "The record of what happened to accounts, keys and rights, for administrators.",
  "api-keys": "Keys for programs, which act for their owner.",
  conversations: "Conversations and their members.",
  messages: "Messages, answers of models, feedback.",
  prompts: "Templates of system prompts, with their versions.",
  documents: "Markdown documents.",
  models: "Configured models.",
  openai: "What OpenAI's own clients call.",
  operations: "Health, version and metrics.",
} as const;

export type Tag = keyof typeof tags;

/** RFC 9457, as every error answer has it. */
export const ProblemDetails = Type.Object(
  {
    type: Type.String({ description: "`/problems/<code>`, a page that explains the code." }),
    title: Type.String({ description: "The same for every occurrence." }),
    status: Type.Integer(),
    detail: Type.String({ description: "What happened this time." }),
    instance: Type.String({ description: "`urn:request:<request_id>`" }),
    code: Type.String({ description: "What clients branch on." }),
    request_id: Type.String(),
    errors: Type.Optional(
      Type.Array(Type.Object({ pointer: Type.String(), detail: Type.String() }), {
        description: "The invalid places, as JSON pointers.",
      }),
    ),
  },
  { description: "RFC 9457 problem details." },
);

/** Every error status that an operation may document, with its meaning. */
export const problemStatuses = {
  400: "The request could not be read.",
  401: "Credentials are missing or no longer valid.",
  403: "Not allowed.",
  404: "Not found, or not to be known by the caller.",
  406: "No representation in an accepted format.",
  409: "In conflict with the current state.",
  413: "The request is too large.",
  415: "The content type is not supported.",
  422: "The request is not valid.",
  429: "Too many requests.",
  500: "Something went wrong on our side.",
  503: "Temporarily unavailable.",
} as const;

export type ProblemStatus = keyof typeof problemStatuses;

export type OperationDescription = {
  operationId: string;
  summary: string;
  tag: Tag;
  description?: string;
  /** Body of the answer; absent when it has none. */
  ok?: TSchema;
  /** Status of the answer when all is well; 200, or 204 when there is no body. */
  status?: number;
  /** Media types of `ok`. */
  mediaTypes?: readonly string[];
  /**
   * Error statuses beyond those that follow from the rest (401 unless public, 400/413/415/422 with a body, 404 and 422
   * with a path parameter, 422 with a query, 500 and 503 always).
   */
  problems?: readonly ProblemStatus[];
  /**
   * What an `Idempotency-Key` does here, where it does not just have the answer kept (every POST with a credential): the
   * operation itself does nothing twice under one id (`exact`), or creates nothing and the key is `ignored`.
   */
  idempotencyKey?: "exact" | "ignored";
  /** What a request counts as; else `read` where it only reads, and `write`. */
  limit?: RouteClass;
  /** Answers by status that none of the above describes. */
  responses?: Record<number, { description: string; content?: Record<string, { schema: object }> }>;
} & (
  | {
      /** Needs no credential. */
      public: true;
      scope?: undefined;
    }
  | {
      /** What an API key must have been allowed; enforced where the caller is found out. */
      scope: NeededScope;
      public?: undefined;
    }
);

/** Where an operation of the document says what it asks of an API key. */
export const SCOPE_FIELD = "x-scope";
/** Where it says what an `Idempotency-Key` does. */
export const IDEMPOTENCY_FIELD = "x-idempotency-key";
/** Where it says what a request counts as. */
export const LIMIT_FIELD = "x-limit";

/**
 * Documents a route: `app.get("/x", handler, { ...describe({ … }), query: … })`. Of all this only the scope, the
 * limit and what an `Idempotency-Key` does have an effect at run time.
 */
export function describe(operation: OperationDescription): { detail: DocumentDecoration } {
  const status = operation.status ?? (operation.ok ? 200 : 204);
  const mediaTypes = operation.mediaTypes ?? ["application/json"];
  const content =
    operation.ok && Object.fromEntries(mediaTypes.map((type) => [type, { schema: operation.ok as object }]));
  const problems = new Set<ProblemStatus>([
    ...(operation.public ? [] : [401 as const, 403 as const]),
    // Health, metrics and pages are not limited.
    ...(operation.tag === "operations" ? [] : [429 as const]),
    ...(operation.problems ?? []),
    500,
    503,
  ]);
  return {
    detail: {
      operationId: operation.operationId,
      summary: operation.summary,
      ...(operation.description && { description: operation.description }),
      tags: [operation.tag],
      security: operation.public ? [] : [{ bearer: [] }, { apiKey: [] }],
      ...(operation.scope && { [SCOPE_FIELD]: operation.scope }),
      ...(operation.idempotencyKey && { [IDEMPOTENCY_FIELD]: operation.idempotencyKey }),
      ...(operation.limit && { [LIMIT_FIELD]: operation.limit }),
      responses: {
        [status]: { description: operation.ok?.description ?? operation.summary, ...(content && { content }) },
        ...Object.fromEntries([...problems].sort((a, b) => a - b).map((problem) => [problem, refToProblem(problem)])),
        ...operation.responses,
      },
    },
  };
}

/** The shared response of an error status. */
export const refToProblem = (status: ProblemStatus) => ({ $ref: `#/components/responses/Problem${status}` });
