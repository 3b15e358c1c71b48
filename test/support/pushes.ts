import { findFaultInMessage } from "./conformance/messages.ts";
import { noteSeen } from "./conformance/seen.ts";
import { addViolation } from "./conformance/violations.ts";

/**
 * Checks a push that a test received without a socket; pushes over sockets and event streams are always checked
 * (conformance/).
 */
export function checkPush(push: unknown): void {
  const fault = findFaultInMessage("realtime", push);
  if (fault !== null) addViolation(fault, push);
}

/** Checks the body of a webhook. A truncated body need not match the schema. */
export function checkWebhook(body: { type: string; data: Record<string, unknown> }): void {
  noteSeen(`webhooks ${body.type}`);
  const fault = body.data.content_truncated === true ? null : findFaultInMessage("webhooks", body);
  if (fault !== null) addViolation(fault, body);
}
