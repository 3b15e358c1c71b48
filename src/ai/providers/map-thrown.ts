import type { ProviderError } from "../provider.ts";
import { createProviderError, type HttpFailure, mapHttpFailure } from "../provider-error.ts";
import { readErrorBody } from "./error-body.ts";
import { UnexpectedAnswerError } from "./unexpected-answer.ts";

/** The SDK that may have thrown. */
export type ThrownSource = {
  /** Maps an SDK error; null if it isn't one. */
  mapSdkError(error: unknown): HttpFailure | null;
  /** Must never appear in a log. */
  secrets: readonly string[];
};

/** Maps an error that was thrown before or while reading an answer. */
export function mapThrown({ mapSdkError, secrets }: ThrownSource, error: unknown): ProviderError {
  const failure = mapSdkError(error);
  if (failure) return mapHttpFailure({ ...failure, body: readErrorBody(error) }, secrets);
  const cause = error instanceof Error ? `${error.name}: ${error.message}` : "unknown error";
  const retryable = !(error instanceof UnexpectedAnswerError);
  return createProviderError("provider_unavailable", cause, { secrets, retryable });
}
