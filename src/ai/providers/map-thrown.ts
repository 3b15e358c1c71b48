import type { ProviderError } from "../provider.ts";
import { createProviderError, type HttpFailure, mapHttpFailure } from "../provider-error.ts";
import { parseErrorBody } from "./error-body.ts";
import { UnexpectedResponseError } from "./unexpected-response.ts";

export type ErrorSource = {
  /** Maps an SDK error. Returns null for other errors. */
  mapSdkError(error: unknown): HttpFailure | null;
  /** Values that must never be logged. */
  secrets: readonly string[];
};

/** Maps an error that was thrown while a request was sent or its response was read. */
export function mapThrownError({ mapSdkError, secrets }: ErrorSource, error: unknown): ProviderError {
  const failure = mapSdkError(error);
  if (failure) return mapHttpFailure({ ...failure, body: parseErrorBody(error) }, secrets);
  const cause = error instanceof Error ? `${error.name}: ${error.message}` : "unknown error";
  const retryable = !(error instanceof UnexpectedResponseError);
  return createProviderError("provider_unavailable", cause, { secrets, retryable });
}
