import type { ErrorCode } from "../lib/error-codes.ts";
import { formatPointer } from "../lib/json.ts";
import { Problem, type ProblemCode, problemCodes } from "../lib/problem.ts";

/** An error in OpenAI's format. */
export type OpenAiError = {
  status: number;
  message: string;
  type: string;
  code: string;
  /** The invalid parameter, for example `messages[0].content`. */
  param: string | null;
  /** Delay after which the request may succeed, or null if unknown. */
  retryAfterMs: number | null;
};

/** Whether a path belongs to the OpenAI-compatible API. */
export const isOpenAiPath = (pathname: string): boolean => pathname === "/v1" || pathname.startsWith("/v1/");

/** OpenAI's codes and statuses, where they differ from Parley's. */
const codes: Partial<Record<ProblemCode, ErrorCode>> = {
  unauthorized: "invalid_api_key",
  unknown_model: "model_not_found",
  rate_limited: "rate_limit_exceeded",
  budget_exceeded: "insufficient_quota",
};
const statuses: Partial<Record<ProblemCode, number>> = { invalid: 400, unknown_model: 404 };

/** Creates an error with OpenAI's `type` for its status. */
export function createOpenAiError(
  status: number,
  code: string,
  message: string,
  { param = null, retryAfterMs = null }: Partial<Pick<OpenAiError, "param" | "retryAfterMs">> = {},
): OpenAiError {
  return { status, message, type: findErrorType(status), code, param, retryAfterMs };
}

function findErrorType(status: number): string {
  if (status >= 500) return "server_error";
  if (status === 429) return "rate_limit_error";
  return status === 403 ? "permission_error" : "invalid_request_error";
}

/** Maps a problem to OpenAI's format. There, validation errors have the status 400, and an unknown model has 404. */
export function mapProblemToOpenAiError({ code, openAiCode, message, errors, retryAfterMs }: Problem): OpenAiError {
  const pointer = errors?.[0]?.pointer;
  const param = code === "unknown_model" ? "model" : pointer === undefined ? null : formatPointer(pointer);
  const status = statuses[code] ?? problemCodes[code].status;
  return createOpenAiError(status, openAiCode ?? codes[code] ?? code, message, {
    param,
    retryAfterMs: retryAfterMs ?? null,
  });
}

/** Formats an error for the body of a response or for the last event of a failed stream. */
export const formatOpenAiError = ({ message, type, param, code }: OpenAiError): string =>
  JSON.stringify({ error: { message, type, param, code } });

/** Creates the response for an error, with `Retry-After` if the delay is known. */
export function createOpenAiErrorResponse(error: OpenAiError): Response {
  const headers = new Headers({ "content-type": "application/json", "cache-control": "no-store" });
  const seconds = Math.ceil((error.retryAfterMs ?? Number.NaN) / 1000);
  if (Number.isSafeInteger(seconds)) headers.set("retry-after", String(seconds));
  return new Response(formatOpenAiError(error), { status: error.status, headers });
}

/** Maps an error that was thrown after the status was sent. Only the message of a `Problem` is safe for clients. */
export function mapThrownToOpenAiError(error: unknown): OpenAiError {
  const problem = error instanceof Problem ? error : new Problem("internal", "The request could not be completed.");
  return mapProblemToOpenAiError(problem);
}
