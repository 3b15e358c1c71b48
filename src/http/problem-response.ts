import type { ValueError } from "@sinclair/typebox/errors";
import { ParseError, ValidationError } from "elysia";
import { findTemporaryProblem } from "../db/client.ts";
import { type InvalidField, Problem, problemCodes } from "../lib/problem.ts";
import { type InputSource, listSchemaErrors } from "../lib/schema-errors.ts";

/** RFC 9457, with our `code`, `request_id` and, for invalid input, `errors`. */
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

/** The response for a problem: `application/problem+json`, with `Retry-After` if retrying makes sense. */
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

/** Elysia wraps errors thrown before or while the body is read. */
export const unwrapError = (error: unknown): unknown =>
  error instanceof ParseError && error.cause instanceof Error ? error.cause : error;

/**
 * Maps anything thrown to a problem. Only our own errors keep their text; the `status` or `code` of a foreign error (a
 * provider's 401, a driver's 23505) never decides.
 * @returns the problem, and whether it is an internal error to be logged.
 */
export function mapErrorToProblem(error: unknown, elysiaCode: unknown): { problem: Problem; isFault: boolean } {
  if (error instanceof Problem) return { problem: error, isFault: error.code === "internal" };
  if (error instanceof ValidationError) return mapValidationError(error);
  const temporary = findTemporaryProblem(error);
  if (temporary) return { problem: temporary, isFault: true };
  if (elysiaCode === "NOT_FOUND")
    return { problem: new Problem("not_found", "No route matches this path."), isFault: false };
  if (elysiaCode === "PARSE")
    return { problem: new Problem("malformed", "The body could not be read."), isFault: false };
  return { problem: new Problem("internal", "The request could not be completed."), isFault: true };
}

function mapValidationError(error: ValidationError): { problem: Problem; isFault: boolean } {
  // A response that doesn't match its own schema is our bug; its content must not be shown.
  if (error.type === "response")
    return { problem: new Problem("internal", "The request could not be completed."), isFault: true };
  // Not `error.all`: it formats the values into its texts, calling their `toString`.
  const { validator, value } = error as unknown as {
    validator: { Errors(value: unknown): Iterable<ValueError> };
    value: unknown;
  };
  const errors = listSchemaErrors(validator.Errors(value), error.type as InputSource);
  const detail = errors[0]?.detail ?? "The request is invalid.";
  return { problem: new Problem("invalid", detail, { errors }), isFault: false };
}
