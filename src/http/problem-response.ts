import type { ValueError } from "@sinclair/typebox/errors";
import { ParseError, ValidationError } from "elysia";
import { findTemporaryProblem } from "../db/client.ts";
import { type InvalidField, Problem, problemCodes } from "../lib/problem.ts";
import { type InputSource, listSchemaErrors } from "../lib/schema-errors.ts";

/** The body of an error response (RFC 9457). */
export type ProblemBody = {
  type: string;
  title: string;
  status: number;
  detail: string;
  instance: string;
  code: string;
  request_id: string;
  errors?: InvalidField[];
  violated_policies?: readonly string[];
};

/** Creates the response for a problem, with `Retry-After` if the problem has a delay. */
export function createProblemResponse(problem: Problem, requestId: string): Response {
  const { status, title } = problemCodes[problem.code];
  const body: ProblemBody = {
    type: `/problems/${problem.code}`,
    title,
    status,
    detail: problem.message,
    instance: `urn:request:${requestId}`,
    code: problem.code,
    request_id: requestId,
    ...(problem.errors && { errors: problem.errors }),
    ...(problem.violatedPolicies && { violated_policies: problem.violatedPolicies }),
  };
  const headers = new Headers({ "content-type": "application/problem+json", "cache-control": "no-store" });
  if (problem.retryAfterMs !== undefined) headers.set("retry-after", String(Math.ceil(problem.retryAfterMs / 1000)));
  return new Response(JSON.stringify(body), { status, headers });
}

/** Returns the original error, which Elysia wraps if it was thrown before or while the body was read. */
export const unwrapError = (error: unknown): unknown =>
  error instanceof ParseError && error.cause instanceof Error ? error.cause : error;

/**
 * Maps a thrown value to a problem. The message, `status` and `code` of library errors are ignored, because they may come from
 * elsewhere, for example a provider's 401 or the database driver's 23505.
 * @returns the problem, and whether it is an internal error that must be logged.
 */
export function mapErrorToProblem(error: unknown, elysiaCode: unknown): { problem: Problem; isInternalError: boolean } {
  if (error instanceof Problem) return { problem: error, isInternalError: error.code === "internal" };
  if (error instanceof ValidationError) return mapValidationError(error);
  const temporaryProblem = findTemporaryProblem(error);
  if (temporaryProblem) return { problem: temporaryProblem, isInternalError: true };
  if (elysiaCode === "NOT_FOUND")
    return { problem: new Problem("not_found", "No route matches this path."), isInternalError: false };
  if (elysiaCode === "PARSE")
    return { problem: new Problem("malformed", "The body could not be read."), isInternalError: false };
  return { problem: new Problem("internal", "The request could not be completed."), isInternalError: true };
}

function mapValidationError(error: ValidationError): { problem: Problem; isInternalError: boolean } {
  // A response that doesn't match its schema is a bug, and its content must not be sent.
  if (error.type === "response")
    return { problem: new Problem("internal", "The request could not be completed."), isInternalError: true };
  // `error.all` would include the values in its messages.
  const { validator, value } = error as unknown as {
    validator: { Errors(value: unknown): Iterable<ValueError> };
    value: unknown;
  };
  const errors = listSchemaErrors(validator.Errors(value), error.type as InputSource);
  const detail = errors[0]?.detail ?? "The request is invalid.";
  return { problem: new Problem("invalid", detail, { errors }), isInternalError: false };
}
