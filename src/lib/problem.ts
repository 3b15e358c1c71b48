/**
 * The error codes, on which clients branch. In HTTP responses, they are the problem's `code` and part of its `type` (RFC 9457). On
 * a socket, they are the error frame's `code`. `temporary` is true if the same request may succeed later.
 */
export const problemCodes = {
  malformed: {
    status: 400,
    title: "The request could not be read",
    temporary: false,
    meaning: "The body, a header or a parameter doesn't have the form that the protocol requires.",
    remedy: "Send valid JSON in UTF-8, nested at most 32 levels deep. `detail` explains what could not be read.",
  },
  bad_cursor: {
    status: 400,
    title: "The cursor is invalid",
    temporary: false,
    meaning: "The `cursor` is from a different list, or it was changed.",
    remedy: "Start again without `cursor`, and pass `next_cursor` unchanged.",
  },
  unauthorized: {
    status: 401,
    title: "The credential is missing, invalid or expired",
    temporary: false,
    meaning: "The request has no access token or API key, or it is invalid, expired or revoked.",
    remedy: "Send `Authorization: Bearer <token>`. If the token has expired, refresh it or log in again.",
  },
  invalid_credentials: {
    status: 401,
    title: "The email address or password is incorrect",
    temporary: false,
    meaning: "No account has this email address with this password, or the account is disabled.",
    remedy: "Check both, or ask an administrator.",
  },
  token_reused: {
    status: 401,
    title: "The refresh token was already used; the session has ended",
    temporary: false,
    meaning:
      "Each refresh token works once. This one was used before, possibly because it was stolen, so its session was ended.",
    remedy: "Log in again. Always store the newest refresh token.",
  },
  forbidden: {
    status: 403,
    title: "Not allowed",
    temporary: false,
    meaning: "The caller is authenticated, but not allowed to do this.",
    remedy: "Use an account with the required role, or ask someone who has it.",
  },
  reauthentication_required: {
    status: 403,
    title: "Confirm your identity",
    temporary: false,
    meaning:
      "The request changes or deletes the account itself. A session is not enough for that, because it may be stolen or left open.",
    remedy:
      "Send your current password as `current_password`, or log in again and repeat the request within 5 minutes.",
  },
  quota_exceeded: {
    status: 403,
    title: "The quota is exceeded",
    temporary: false,
    meaning:
      "Storage per user is limited: messages, conversations, prompts, ratings, API keys, webhooks. `violated_policies` contains the quota that is used up. Nothing was changed.",
    remedy:
      "Delete what you no longer need, or ask the operator for a larger quota. `GET /api/v1/me/usage` shows quotas and usage.",
  },
  registration_closed: {
    status: 403,
    title: "Registration is closed",
    temporary: false,
    meaning: "This server doesn't allow self-registration.",
    remedy: "Ask an administrator for an account. As the operator, set `REGISTRATION=open`.",
  },
  not_found: {
    status: 404,
    title: "Not found",
    temporary: false,
    meaning: "Nothing exists at this address, or the caller has no access to it.",
    remedy: "Check the path and the id, and that the caller is a member of the conversation.",
  },
  method_not_allowed: {
    status: 405,
    title: "Method not allowed",
    temporary: false,
    meaning: "The path exists, but doesn't support this method.",
    remedy: "Use a method from the `Allow` header.",
  },
  not_acceptable: {
    status: 406,
    title: "No representation in an accepted format",
    temporary: false,
    meaning: "The response isn't available in any format that `Accept` allows.",
    remedy: "Accept more formats; `*/*` always works.",
  },
  conflict: {
    status: 409,
    title: "Conflict with the current state",
    temporary: false,
    meaning: "The request conflicts with the stored state, for example because a unique value is already taken.",
    remedy: "Read the current state, then adjust the request.",
  },
  idempotency_in_progress: {
    status: 409,
    title: "The first request with this key is still in progress",
    temporary: true,
    meaning: "A request with the same `Idempotency-Key` is still in progress, so its response can't be replayed yet.",
    remedy: "Send the same request again after `Retry-After`; it receives the response to the first request.",
  },
  idempotency_answer_not_kept: {
    status: 409,
    title: "The request completed, but its response was not stored",
    temporary: false,
    meaning:
      "A request with this `Idempotency-Key` completed and is not executed again. Its response was a stream, or too large to be stored.",
    remedy: "Read what was created, or use a new key to execute the request again.",
  },
  precondition_failed: {
    status: 412,
    title: "The resource has changed since it was read",
    temporary: false,
    meaning: "The resource has changed since the state in `If-Match`. Nothing was changed.",
    remedy: "Read it again, apply your change to the current state, and send the new `ETag` as `If-Match`.",
  },
  too_large: {
    status: 413,
    title: "The request is too large",
    temporary: false,
    meaning: "The body is larger than this endpoint accepts.",
    remedy: "Send less, or split the request. `detail` states the limit.",
  },
  unsupported_media_type: {
    status: 415,
    title: "The content type is not supported",
    temporary: false,
    meaning: "This endpoint doesn't accept bodies of this type.",
    remedy: "Send JSON with `Content-Type: application/json`.",
  },
  invalid: {
    status: 422,
    title: "The request is invalid",
    temporary: false,
    meaning: "A value in the request is missing, of the wrong type, too long or unknown.",
    remedy: "Correct the fields listed in `errors`, each with a JSON pointer.",
  },
  idempotency_key_reused: {
    status: 422,
    title: "The key was already used for a different request",
    temporary: false,
    meaning: "The `Idempotency-Key` was sent before with a different body or query. Each key identifies one request.",
    remedy: "Use a new key for each request. Reuse a key only to repeat a request unchanged.",
  },
  unknown_model: {
    status: 422,
    title: "The model is not configured",
    temporary: false,
    meaning: "The request specifies a model that isn't configured on this server.",
    remedy: "Choose a model from `GET /api/v1/models`, or leave out the model.",
  },
  rate_limited: {
    status: 429,
    title: "Too many requests",
    temporary: true,
    meaning: "The caller has exceeded a rate limit.",
    remedy: "Try again after the time in `Retry-After`.",
  },
  budget_exceeded: {
    status: 429,
    title: "The budget is used up",
    temporary: true,
    meaning:
      "The caller's budget for model replies (tokens or money) is too small for another reply in this day or month (UTC).",
    remedy:
      "Wait for the time in `Retry-After`, or ask the operator for a larger budget. `GET /api/v1/me/usage` shows the limits.",
  },
  internal: {
    status: 500,
    title: "Internal error",
    temporary: true,
    meaning: "An unexpected error occurred. The server's log has the cause under the request id.",
    remedy: "Try again. If the error persists, report the `request_id` to the operator.",
  },
  unavailable: {
    status: 503,
    title: "Temporarily unavailable",
    temporary: true,
    meaning: "A required service, usually the database, can't be reached. Nothing was changed.",
    remedy: "Try again after `Retry-After`.",
  },
  overloaded: {
    status: 503,
    title: "Temporarily overloaded",
    temporary: true,
    meaning:
      "Too many requests are waiting for the same resource, or it is locked by another change. Nothing was changed.",
    remedy: "Try again after `Retry-After`.",
  },
  draining: {
    status: 503,
    title: "This instance is shutting down",
    temporary: true,
    meaning: "This instance is shutting down and accepts no new work.",
    remedy: "Try again immediately: another instance, or this one after its restart, will respond.",
  },
} as const;

export type ProblemCode = keyof typeof problemCodes;

/** An invalid field. `pointer` is a JSON pointer as a URI fragment (`#/members/0/role`), and `detail` describes the error. */
export type InvalidField = { pointer: string; detail: string };

/**
 * The only error whose message is sent to clients. Other errors are sent as `internal`, or as `unavailable` if the database can't
 * be reached, with a fixed message.
 */
export class Problem extends Error {
  readonly code: ProblemCode;
  readonly errors: InvalidField[] | undefined;
  /** Delay before a retry. */
  readonly retryAfterMs: number | undefined;
  /** Additional headers of the HTTP response. */
  readonly headers: Readonly<Record<string, string>> | undefined;
  /** The scope that the API key doesn't have. */
  readonly neededScope: string | undefined;
  /** The names of the limits that were exceeded. */
  readonly violatedPolicies: readonly string[] | undefined;
  /** A more specific code for OpenAI clients, instead of `code`. */
  readonly openAiCode: string | undefined;

  constructor(code: ProblemCode, detail: string, extra: ProblemExtra = {}) {
    super(detail);
    this.name = "Problem";
    this.code = code;
    this.errors = extra.errors;
    this.retryAfterMs = extra.retryAfterMs;
    this.headers = extra.headers;
    this.neededScope = extra.neededScope;
    this.violatedPolicies = extra.violatedPolicies;
    this.openAiCode = extra.openAiCode;
  }
}

type ProblemExtra = {
  errors?: InvalidField[];
  retryAfterMs?: number;
  headers?: Record<string, string>;
  neededScope?: string;
  violatedPolicies?: readonly string[];
  openAiCode?: string;
};

/** Creates the problem for one invalid field. `detail` must be a sentence that mentions the field. */
export function createInvalidProblem(pointer: string, detail: string): Problem {
  return new Problem("invalid", detail, { errors: [{ pointer, detail }] });
}

/** Creates the problem for a requested model that isn't configured. */
export function createUnknownModelProblem(model: string): Problem {
  const detail = `The model ${model} is not configured here.`;
  return new Problem("unknown_model", detail, { errors: [{ pointer: "#/model", detail }] });
}

/** Creates the problem for a resource, such as `message`, that doesn't exist or that the caller can't access. */
export const createNotFoundProblem = (resource: string): Problem =>
  new Problem("not_found", `${resource.charAt(0).toUpperCase()}${resource.slice(1)} not found.`);
