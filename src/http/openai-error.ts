import type { ErrorCode } from "../lib/error-codes.ts";
import { mapPointerToName } from "../lib/json.ts";
import { Problem, type ProblemCode, problemCodes } from "../lib/problem.ts";

/** An error as OpenAI's clients read it. */
export type OpenAiError = {
  status: number;
  message: string;
  type: string;
  code: string;
  /** The parameter that is at fault, as `messages[0].content`. */
  param: string | null;
  /** When the same request may succeed; null: not known. */
  retryAfterMs: number | null;
};

/** Whether an address is one of OpenAI's, which their clients call. */
export const isOpenAiPath = (pathname: string): boolean => pathname === "/v1" || pathname.startsWith("/v1/");

/** Where OpenAI says it otherwise than we do. */
const codes: Partial<Record<ProblemCode, ErrorCode>> = {
  unauthorized: "invalid_api_key",
  unknown_model: "model_not_found",
  rate_limited: "rate_limit_exceeded",
  budget_exceeded: "insufficient_quota",
};
const statuses: Partial<Record<ProblemCode, number>> = { invalid: 400, unknown_model: 404 };

/** An error with the `type` that OpenAI gives errors of its status. */
export function createOpenAiError(
  status: number,
  code: string,
  message: string,
  { param = null, retryAfterMs = null }: Partial<Pick<OpenAiError, "param" | "retryAfterMs">> = {},
): OpenAiError {
  return { status, message, type: findType(status), code, param, retryAfterMs };
}

function findType(status: number): string {
  if (status >= 500) return "server_error";
  if (status === 429) return "rate_limit_error";
  return status === 403 ? "permission_error" : "invalid_request_error";
}

/** A problem in OpenAI's shape: what we call invalid (422) is 400 there, and an unknown model is not found. */
export function mapProblemToOpenAiError({ code, openAiCode, message, errors, retryAfterMs }: Problem): OpenAiError {
  const pointer = errors?.[0]?.pointer;
  const param = code === "unknown_model" ? "model" : pointer === undefined ? null : mapPointerToName(pointer);
  const status = statuses[code] ?? problemCodes[code].status;
  return createOpenAiError(status, openAiCode ?? codes[code] ?? code, message, {
    param,
    retryAfterMs: retryAfterMs ?? null,
  });
}

/** The body of an error answer, and of the last event of a stream that broke. */
export const formatOpenAiError = ({ message, type, param, code }: OpenAiError): string =>
  JSON.stringify({ error: { message, type, param, code } });

/** The answer for an error below `/v1`, with `Retry-After` (whole seconds, rounded up) where that is known. */
export function createOpenAiErrorResponse(error: OpenAiError): Response {
  const headers = new Headers({ "content-type": "application/json", "cache-control": "no-store" });
  const seconds = Math.ceil((error.retryAfterMs ?? Number.NaN) / 1000);
  if (Number.isSafeInteger(seconds)) headers.set("retry-after", String(seconds));
  return new Response(formatOpenAiError(error), { status: error.status, headers });
}

/** What was thrown in mid-stream, when the status is already sent: only our own errors keep their text. */
export function mapThrownToOpenAiError(error: unknown): OpenAiError {
  const problem = error instanceof Problem ? error : new Problem("internal", "The request could not be completed.");
  return mapProblemToOpenAiError(problem);
}
