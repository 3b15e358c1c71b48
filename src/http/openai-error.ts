import { mapPointerToName } from "../lib/json.ts";
import { Problem, type ProblemCode, problemCodes } from "../lib/problem.ts";

/** An error as OpenAI's clients read it. */
export type OpenAiError = {
  status: number;
  message: string;
  type: string;
  code: string | null;
  /** The parameter that is at fault, as `messages[0].content`. */
  param: string | null;
};

/** Whether an address is one of OpenAI's, which their clients call. */
export const isOpenAiPath = (pathname: string): boolean => pathname === "/v1" || pathname.startsWith("/v1/");

/** Where OpenAI says it otherwise than we do. */
const codes: Partial<Record<ProblemCode, string>> = {
  unauthorized: "invalid_api_key",
  unknown_model: "model_not_found",
  rate_limited: "rate_limit_exceeded",
  budget_exceeded: "insufficient_quota",
};
const statuses: Partial<Record<ProblemCode, number>> = { invalid: 400, unknown_model: 404 };

/** A problem in OpenAI's shape: what we call invalid (422) is 400 there, and an unknown model is not found. */
export function mapProblemToOpenAiError(problem: Problem): OpenAiError {
  const { code, message } = problem;
  const status = statuses[code] ?? problemCodes[code].status;
  const pointer = problem.errors?.[0]?.pointer;
  return {
    status,
    message,
    type: findType(status),
    code: codes[code] ?? code,
    param: code === "unknown_model" ? "model" : pointer === undefined ? null : mapPointerToName(pointer),
  };
}

/** The error of a model that could not answer, by our code for it. */
export function mapFailureToOpenAiError(code: string, message: string): OpenAiError {
  const status = failureStatuses[code] ?? 503;
  return { status, message, type: findType(status), code, param: null };
}

const failureStatuses: Record<string, number> = {
  provider_refused: 400,
  provider_rate_limited: 429,
  provider_timeout: 504,
};

function findType(status: number): string {
  if (status >= 500) return "server_error";
  if (status === 429) return "rate_limit_error";
  return status === 403 ? "permission_error" : "invalid_request_error";
}

/** The body of an error answer, and of the last event of a stream that broke. */
export const formatOpenAiError = ({ message, type, param, code }: OpenAiError): string =>
  JSON.stringify({ error: { message, type, param, code } });

/** The answer for an error below `/v1`. */
export function createOpenAiErrorResponse(error: OpenAiError, retryAfterMs?: number): Response {
  const headers = new Headers({ "content-type": "application/json", "cache-control": "no-store" });
  if (retryAfterMs !== undefined) headers.set("retry-after", String(Math.ceil(retryAfterMs / 1000)));
  return new Response(formatOpenAiError(error), { status: error.status, headers });
}

/** What was thrown in mid-stream, when the status is already sent: only our own errors keep their text. */
export function mapThrownToOpenAiError(error: unknown): OpenAiError {
  const problem = error instanceof Problem ? error : new Problem("internal", "The request could not be completed.");
  return mapProblemToOpenAiError(problem);
}
