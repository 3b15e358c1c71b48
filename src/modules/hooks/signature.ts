import { createHmac, timingSafeEqual } from "node:crypto";
import { Problem } from "../../lib/problem.ts";
import { SIGNATURE_TOLERANCE_S, SIGNATURES_MAX } from "./limits.ts";

const SECRET_PREFIX = "whsec_";

/** Formats a secret as in Standard Webhooks 1.0.0. */
export const formatSecret = (key: Uint8Array): string => SECRET_PREFIX + Buffer.from(key).toString("base64");

/**
 * Verifies a post's signature (Standard Webhooks 1.0.0): HMAC-SHA256 of `id.timestamp.body`, with a timestamp that is at most five
 * minutes off. If there are several signatures, one of them must be valid.
 * @param nowMs milliseconds since 1970.
 * @throws Problem `unauthorized`.
 */
export function checkSignature(key: Uint8Array, headers: Headers, body: Uint8Array, nowMs: number): void {
  const id = headers.get("webhook-id");
  const timestamp = headers.get("webhook-timestamp");
  const signatures = headers.get("webhook-signature");
  if (!id || !timestamp || !signatures)
    throw new Problem(
      "unauthorized",
      "This hook requires signed posts: send `webhook-id`, `webhook-timestamp` and `webhook-signature`.",
    );
  if (!isRecent(timestamp, nowMs))
    throw new Problem(
      "unauthorized",
      `\`webhook-timestamp\` must be the current time in seconds since 1970, at most ${SIGNATURE_TOLERANCE_S} s off.`,
    );
  const expected = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest("base64");
  if (!signatures.split(" ", SIGNATURES_MAX).some((signature) => isSameSignature(signature, expected)))
    throw new Problem("unauthorized", "`webhook-signature` doesn't match this body and the hook's secret.");
}

function isRecent(timestamp: string, nowMs: number): boolean {
  if (!/^\d{1,12}$/.test(timestamp)) return false;
  return Math.abs(nowMs / 1_000 - Number(timestamp)) <= SIGNATURE_TOLERANCE_S;
}

/** Compares the encoded strings, because different base64 strings can decode to the same bytes. */
function isSameSignature(signature: string, expected: string): boolean {
  const receivedBytes = Buffer.from(signature);
  const expectedBytes = Buffer.from(`v1,${expected}`);
  return receivedBytes.length === expectedBytes.length && timingSafeEqual(receivedBytes, expectedBytes);
}
