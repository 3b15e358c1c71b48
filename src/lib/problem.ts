/**
 * The one table of error codes. A code is what clients branch on: over HTTP as the problem's `type` and `code`
 * (RFC 9457), on a socket as the error frame's `code`. `temporary` says whether the same request may succeed later; `meaning` and `remedy` (what to
 * do about it) stand on the page `/problems/<code>`.
 */
export const problemCodes = {
  malformed: {
    status: 400,
    title: "The request could not be read",
    temporary: false,
    meaning: "The body, a header or a parameter does not have the form that the protocol asks for.",
    remedy: "Send valid JSON in UTF-8, at most 32 levels deep; `detail` says what could not be read.",
  },
  bad_cursor: {
    status: 400,
    title: "The cursor is not one of ours",
    temporary: false,
    meaning: "The `cursor` was not given out by this list, or it was changed on the way.",
    remedy: "Start again without `cursor`, and pass `next_cursor` on as it is.",
  },
  unauthorized: {
    status: 401,
    title: "Credentials are missing or no longer valid",
    temporary: false,
    meaning: "The request carries no credential, or one that has expired, been revoked or been damaged.",
    remedy: "Send `Authorization: Bearer <access token>`; refresh the token, or log in again.",
  },
  invalid_credentials: {
    status: 401,
    title: "E-mail address or password is wrong",
    temporary: false,
    meaning: "No account has this e-mail address with this password, or the account is disabled.",
    remedy: "Check both, or ask an administrator.",
  },
  token_reused: {
    status: 401,
    title: "The refresh token was already used; the session has been ended",
    temporary: false,
    meaning:
      "A refresh token works once. This one was used before, which also happens when it was stolen, so its session has ended.",
    remedy: "Log in again, and always store the newest refresh token.",
  },
  forbidden: {
    status: 403,
    title: "Not allowed",
    temporary: false,
    meaning: "The caller is known, but may not do this.",
    remedy: "Use an account with the role that is needed, or ask somebody who has it.",
  },
  reauthentication_required: {
    status: 403,
    title: "Prove again who you are",
    temporary: false,
    meaning:
      "The request changes or deletes the account itself, so a session alone is not enough: it may have been left open, or stolen.",
    remedy:
      "Send your current password as `current_password`, or log in again and repeat the request within 5 minutes.",
  },
  quota_exceeded: {
    status: 403,
    title: "The quota is used up",
    temporary: false,
    meaning:
      "A user may only have so much stored: messages, conversations, prompts, ratings, API keys, webhooks. `violated_policies` names the quota that has no room. Nothing was changed.",
    remedy:
      "Delete what is no longer needed, or ask the operator for more; `GET /api/v1/me/usage` shows the quotas and what is used.",
  },
  registration_closed: {
    status: 403,
    title: "Registration is closed",
    temporary: false,
    meaning: "This server does not let people register by themselves.",
    remedy: "Ask an administrator for an account, or set `REGISTRATION=open`.",
  },
  not_found: {
    status: 404,
    title: "Not found",
    temporary: false,
    meaning: "There is nothing at this address, or the caller may not know of it.",
    remedy: "Check the address and the id, and that the caller is a member.",
  },
  method_not_allowed: {
    status: 405,
    title: "The method is not allowed here",
    temporary: false,
    meaning: "The address exists, but does not answer to this method.",
    remedy: "Use one of the methods that the `Allow` header lists.",
  },
  not_acceptable: {
    status: 406,
    title: "No representation in an accepted format",
    temporary: false,
    meaning: "The answer exists in none of the formats that `Accept` asks for.",
    remedy: "Widen `Accept`; `*/*` always works.",
  },
  conflict: {
    status: 409,
    title: "In conflict with the current state",
    temporary: false,
    meaning: "The request does not fit what is stored now, for instance a value that must be unique and is taken.",
    remedy: "Read the current state, then send a request that fits it.",
  },
  idempotency_in_progress: {
    status: 409,
    title: "The first request with this key is still running",
    temporary: true,
    meaning:
      "A request with the same `Idempotency-Key` was begun and has not ended, so there is no answer to repeat yet.",
    remedy: "Send the same request again after `Retry-After`; it gets the answer of the first one.",
  },
  idempotency_answer_not_kept: {
    status: 409,
    title: "It was done, but the answer was not kept",
    temporary: false,
    meaning:
      "A request with this `Idempotency-Key` was carried out, and is not carried out twice. Its answer was a stream, or too large to be kept.",
    remedy: "Read what was created, or use a new key to have it done once more.",
  },
  precondition_failed: {
    status: 412,
    title: "It has changed since it was read",
    temporary: false,
    meaning:
      "`If-Match` names a state that is no longer the current one: somebody else has changed it. Nothing was done.",
    remedy: "Read it again, apply your change to what is there now, and send the new `ETag` as `If-Match`.",
  },
  too_large: {
    status: 413,
    title: "The request is too large",
    temporary: false,
    meaning: "The body is larger than this address takes.",
    remedy: "Send less, or split it; `detail` names the limit.",
  },
  unsupported_media_type: {
    status: 415,
    title: "The content type is not supported",
    temporary: false,
    meaning: "The body is of a type that this address does not read.",
    remedy: "Send JSON with `Content-Type: application/json`.",
  },
  invalid: {
    status: 422,
    title: "The request is not valid",
    temporary: false,
    meaning: "The request was read, but a value in it is missing, of the wrong type, too long or unknown.",
    remedy: "Correct the places listed in `errors`; each has a JSON pointer.",
  },
  idempotency_key_reused: {
    status: 422,
    title: "The key was used for another request",
    temporary: false,
    meaning: "The `Idempotency-Key` was sent before with another body or query. A key stands for one request.",
    remedy: "Use a new key for each request, and the same one only to repeat it unchanged.",
  },
  unknown_model: {
    status: 422,
    title: "The model is not configured",
    temporary: false,
    meaning: "The request names a model that this server does not have.",
    remedy: "Choose one of `GET /api/v1/models`, or leave the model out.",
  },
  rate_limited: {
    status: 429,
    title: "Too many requests",
    temporary: true,
    meaning: "The caller has used up what a limit allows for now.",
    remedy: "Wait for the time in `Retry-After`, then try again.",
  },
  budget_exceeded: {
    status: 429,
    title: "The budget is used up",
    temporary: true,
    meaning:
      "What the caller may spend on answers of models, in tokens or in money, does not suffice for one more answer in this day or month (UTC).",
    remedy:
      "Wait until the time in `Retry-After`, or ask the operator for more; `GET /api/v1/me/usage` shows the limits.",
  },
  internal: {
    status: 500,
    title: "Something went wrong on our side",
    temporary: true,
    meaning: "The server met something that it did not expect. The cause is in its log under the request id.",
    remedy: "Try again; if it stays, tell the operator the `request_id`.",
  },
  unavailable: {
    status: 503,
    title: "Temporarily unavailable",
    temporary: true,
    meaning: "Something that is needed, usually the database, cannot be reached at the moment. Nothing was changed.",
    remedy: "Try again after `Retry-After`; it recovers by itself.",
  },
  overloaded: {
    status: 503,
    title: "Temporarily overloaded",
    temporary: true,
    meaning:
      "Too many requests are waiting for the same thing, or what is to be changed is locked by another change. Nothing was changed.",
    remedy: "Try again after `Retry-After`.",
  },
  draining: {
    status: 503,
    title: "This instance is shutting down",
    temporary: true,
    meaning: "This instance is about to stop and takes on nothing new.",
    remedy: "Try again at once: another instance, or the restarted one, answers.",
  },
} as const;

export type ProblemCode = keyof typeof problemCodes;

/** One invalid place of an input: a JSON pointer as URI fragment (`#/members/0/role`) and what is wrong there. */
export type InvalidField = { pointer: string; detail: string };

/**
 * The only error whose text reaches a client. Everything else that is thrown is answered as `internal` (or
 * `unavailable`, when the database is away) with a fixed text.
 */
export class Problem extends Error {
  readonly code: ProblemCode;
  readonly errors: InvalidField[] | undefined;
  /** When a new try makes sense, in milliseconds from now. */
  readonly retryAfterMs: number | undefined;
  /** What an HTTP answer says besides. */
  readonly headers: Readonly<Record<string, string>> | undefined;
  /** The scope that the API key lacks. */
  readonly neededScope: string | undefined;
  /** The names of the limits that were exceeded. */
  readonly violatedPolicies: readonly string[] | undefined;
  /** What OpenAI's clients are told in the place of `code`, where OpenAI has a code that says more. */
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

/** For one place of an input; `detail` is a sentence that names it. */
export function createInvalid(pointer: string, detail: string): Problem {
  return new Problem("invalid", detail, { errors: [{ pointer, detail }] });
}

/** For a model that is named in a request, but not configured here. */
export function createUnknownModel(model: string): Problem {
  const detail = `The model ${model} is not configured here.`;
  return new Problem("unknown_model", detail, { errors: [{ pointer: "#/model", detail }] });
}
