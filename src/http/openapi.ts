import { Type } from "@sinclair/typebox";
import { Named } from "../lib/schema.ts";

/** The tags of the OpenAPI document in order. */
export const tags = {
  auth: "Registration, login and tokens.",
  me: "The caller's own account.",
  users: "All accounts, for administrators.",
  audit: "The audit log of accounts, keys and rights, for administrators.",
  analytics: "Usage statistics for administrators: messages, tokens, cost, errors and latency.",
  "api-keys": "API keys for programs. A key acts for its owner.",
  conversations: "Conversations and their members.",
  messages: "Messages, model replies and feedback.",
  hooks: "Incoming hooks: secret URLs through which programs post into a conversation.",
  imports: "Importing conversations from ChatGPT and Claude.",
  prompts: "Templates of system prompts, with their versions.",
  documents: "Markdown documents.",
  webhooks: "Webhooks: events posted to the caller's URLs.",
  models: "Configured models.",
  openai: "The OpenAI-compatible API.",
  operations: "Health, version and metrics.",
} as const;

export type Tag = keyof typeof tags;

/** The body of error responses (RFC 9457). */
export const ProblemDetails = Named(
  "Problem",
  Type.Object(
    {
      type: Type.String({ description: "`/problems/<code>`, a page that explains the code." }),
      title: Type.String({ description: "A short title, the same for all errors with this code." }),
      status: Type.Integer(),
      detail: Type.String({ description: "What happened in this request." }),
      instance: Type.String({ description: "`urn:request:<request_id>`" }),
      code: Type.String({ description: "The error code, for programs to branch on." }),
      request_id: Type.String(),
      errors: Type.Optional(
        Type.Array(Type.Object({ pointer: Type.String(), detail: Type.String() }), {
          description: "The invalid fields, as JSON pointers.",
        }),
      ),
      violated_policies: Type.Optional(
        Type.Array(Type.String(), { description: "On 429: the policies of `RateLimit-Policy` that were exceeded." }),
      ),
    },
    { description: "RFC 9457 problem details." },
  ),
);

/** The body of error responses under `/v1`, in OpenAI's format. */
export const OpenAiErrorBody = Named(
  "OpenAiError",
  Type.Object({
    error: Type.Object({
      message: Type.String(),
      type: Type.String(),
      param: Type.Union([Type.String(), Type.Null()]),
      code: Type.Union([Type.String(), Type.Null()]),
    }),
  }),
);

/** The error statuses of operations, with their descriptions. */
export const problemStatuses = {
  400: "The request is malformed.",
  401: "The credential is missing, invalid or expired.",
  403: "Not allowed.",
  404: "Not found, or the caller has no access.",
  406: "No representation in an accepted format.",
  409: "Conflicts with the current state.",
  412: "The resource has changed since it was read (`If-Match`).",
  413: "The request is too large.",
  415: "The content type is not supported.",
  422: "The request is invalid.",
  429: "Too many requests.",
  500: "Internal error.",
  503: "Temporarily unavailable.",
} as const;

export type ProblemStatus = keyof typeof problemStatuses;

const text = { type: "string" } as const;

/** Response headers by the name of their component. */
export const responseHeaders = {
  "X-Request-Id": { description: "The id of the request: the one that the client sent, or a new one.", schema: text },
  "RateLimit-Policy": {
    description: "The rate limits that the request counted towards (IETF draft, ratelimit-headers).",
    schema: text,
  },
  RateLimit: { description: "The remaining requests under these limits.", schema: text },
  ETag: { description: "The tag of this version. Send it as `If-None-Match` or `If-Match`.", schema: text },
  Link: { description: 'The URL of the next page (`rel="next"`). Absent on the last page.', schema: text },
  Location: { description: "The URL of the created resource.", schema: text },
  "Content-Disposition": { description: "The file name of the download.", schema: text },
  "Idempotent-Replayed": {
    description: "`true` if this is the stored response to an earlier request with the same `Idempotency-Key`.",
    schema: { type: "string", enum: ["true"] },
  },
  "Retry-After": { description: "Seconds to wait before retrying.", schema: { type: "integer" } },
  "WWW-Authenticate": { description: "Why the credential was rejected (RFC 6750).", schema: text },
} as const;

/** Request headers by the name of their component. */
export const requestHeaders = {
  IdempotencyKey: {
    in: "header",
    name: "Idempotency-Key",
    required: false,
    description:
      "1 to 255 visible ASCII characters, with or without quotes. For 24 hours, the same key with the same payload returns the same " +
      "response, with `Idempotent-Replayed: true`. A different payload returns 422. While the first request is still running, the " +
      "response is 409.",
    schema: text,
  },
  IfMatch: {
    in: "header",
    name: "If-Match",
    required: false,
    description: "The `ETag` of the version to change. If the resource has changed since then, the response is 412.",
    schema: text,
  },
  IfNoneMatch: {
    in: "header",
    name: "If-None-Match",
    required: false,
    description: "The `ETag` of the version that the client has. If it is still current, the response is 304.",
    schema: text,
  },
  LastEventId: {
    in: "header",
    name: "Last-Event-ID",
    required: false,
    description: "The `id` of the last received event. The event stream resumes after it.",
    schema: { type: "integer", minimum: 0 },
  },
  OnBehalfOf: {
    in: "header",
    name: "X-On-Behalf-Of",
    required: false,
    description: "For service keys: the id of the user to act for.",
    schema: { type: "string", format: "uuid" },
  },
} as const;
