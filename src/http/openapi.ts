import { Type } from "@sinclair/typebox";
import { Named } from "../lib/schema.ts";

/** Names of the groups in the OpenAPI document, in its order. */
export const tags = {
  auth: "Registration, login and tokens.",
  me: "The caller's own account.",
  users: "All accounts, for administrators.",
  audit: "The record of what happened to accounts, keys and rights, for administrators.",
  analytics: "What is used, for administrators: messages, tokens, cost, errors, latency.",
  "api-keys": "Keys for programs, which act for their owner.",
  conversations: "Conversations and their members.",
  messages: "Messages, answers of models, feedback.",
  hooks: "Incoming hooks: secret addresses under which programs post into a conversation.",
  imports: "Conversations that users bring along from ChatGPT or Claude.",
  prompts: "Templates of system prompts, with their versions.",
  documents: "Markdown documents.",
  webhooks: "Events, posted to addresses of the caller.",
  models: "Configured models.",
  openai: "What OpenAI's own clients call.",
  operations: "Health, version and metrics.",
} as const;

export type Tag = keyof typeof tags;

/** RFC 9457, as every error answer has it. */
export const ProblemDetails = Named(
  "Problem",
  Type.Object(
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
      violated_policies: Type.Optional(
        Type.Array(Type.String(), { description: "Of a 429: the policies of `RateLimit-Policy` that were exceeded." }),
      ),
    },
    { description: "RFC 9457 problem details." },
  ),
);

/** An error below `/v1`, in OpenAI's shape. */
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

/** Every error status that an operation may document, with its meaning. */
export const problemStatuses = {
  400: "The request could not be read.",
  401: "Credentials are missing or no longer valid.",
  403: "Not allowed.",
  404: "Not found, or not to be known by the caller.",
  406: "No representation in an accepted format.",
  409: "In conflict with the current state.",
  412: "It has changed since it was read (`If-Match`).",
  413: "The request is too large.",
  415: "The content type is not supported.",
  422: "The request is not valid.",
  429: "Too many requests.",
  500: "Something went wrong on our side.",
  503: "Temporarily unavailable.",
} as const;

export type ProblemStatus = keyof typeof problemStatuses;

const text = { type: "string" } as const;

/** Headers that answers have, by the name under which operations refer to them. */
export const answerHeaders = {
  "X-Request-Id": { description: "Names the request; the caller's own, where it sent one.", schema: text },
  "RateLimit-Policy": {
    description: "The limits that the request counted for (IETF draft, ratelimit-headers).",
    schema: text,
  },
  RateLimit: { description: "What is left of them.", schema: text },
  ETag: { description: "Names this state; send it back as `If-None-Match`.", schema: text },
  Link: { description: 'The next page, as `rel="next"`; absent on the last one.', schema: text },
  Location: { description: "The address of what was created.", schema: text },
  "Content-Disposition": { description: "The name of a file to save it as.", schema: text },
  "Idempotent-Replayed": {
    description: "`true`: the answer to an earlier request with this `Idempotency-Key`.",
    schema: { type: "string", enum: ["true"] },
  },
  "Retry-After": { description: "Seconds after which another try makes sense.", schema: { type: "integer" } },
  "WWW-Authenticate": { description: "What is wrong with the credential (RFC 6750).", schema: text },
} as const;

/** Headers that requests may have, by the name of their component. */
export const requestHeaders = {
  IdempotencyKey: {
    in: "header",
    name: "Idempotency-Key",
    required: false,
    description:
      "1 to 255 visible ASCII characters, in quotes or without. The same key with the same payload gets the same answer for " +
      "24 hours, with `Idempotent-Replayed: true`; another payload is 422, and a request that is still running 409.",
    schema: text,
  },
  IfMatch: {
    in: "header",
    name: "If-Match",
    required: false,
    description: "The `ETag` of the state that the request is meant for; if it has changed since, the response is 412.",
    schema: text,
  },
  IfNoneMatch: {
    in: "header",
    name: "If-None-Match",
    required: false,
    description: "An `ETag` that the caller has; where it still holds, the answer is 304.",
    schema: text,
  },
  LastEventId: {
    in: "header",
    name: "Last-Event-ID",
    required: false,
    description: "The `id` of the last event that was seen; an event stream goes on after it.",
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
