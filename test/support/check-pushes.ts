import { recordCoverage } from "./conformance/coverage.ts";
import { findMessageError } from "./conformance/messages.ts";
import { addViolation } from "./conformance/violations.ts";

/**
 * Checks a push that a test received directly from the hub. Pushes over sockets and event streams are checked
 * automatically (conformance/).
 */
export function checkPush(push: unknown): void {
  const error = findMessageError("realtime", push);
  if (error !== null) addViolation(error, push);
}

/** Checks the body of a webhook request. A truncated body doesn't have to match the schema. */
export function checkWebhook(body: { type: string; data: Record<string, unknown> }): void {
  recordCoverage(`webhooks ${body.type}`);
  const error = body.data.content_truncated === true ? null : findMessageError("webhooks", body);
  if (error !== null) addViolation(error, body);
}
