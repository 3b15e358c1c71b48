import type { ProviderError } from "../provider.ts";
import { createProviderError, type HttpFailure, mapHttpFailure } from "../provider-error.ts";
import { readErrorBody } from "./error-body.ts";
import { UnexpectedAnswerError } from "./unexpected-answer.ts";

/** Whose errors are thrown. */
export type ThrownSource = {
  /** What the SDK's error says, or null when it is none of the SDK's. */
  mapSdkError(error: unknown): HttpFailure | null;
  /** Never to appear in a log. */
  secrets: readonly string[];
};

/** What was thrown on the way to an answer, or while it was read. */
export function mapThrown({ mapSdkError, secrets }: ThrownSource, error: unknown): ProviderError {
  const failure = mapSdkError(error);
  if (failure) return mapHttpFailure({ ...failure, body: readErrorBody(error) }, secrets);
  const cause = error instanceof Error ? `${error.name}: ${error.message}` : "unknown error";
  const retryable = !(error instanceof UnexpectedAnswerError);
  return createProviderError("provider_unavailable", cause, { secrets, retryable });
}
