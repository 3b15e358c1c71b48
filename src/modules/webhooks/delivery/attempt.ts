import { parseRetryAfter } from "../../../ai/retry-after.ts";
import { toStorableText } from "../../../db/storable.ts";
import { build } from "../../../lib/build.ts";
import type { Log } from "../../../lib/log.ts";
import { failSpan, SpanKind, type Tracing } from "../../../lib/tracing/tracing.ts";
import type { WebhookSecrets } from "../secrets.ts";
import { createBody } from "./body.ts";
import type { DueDelivery } from "./due.ts";
import { findRetryDelayMs } from "./schedule.ts";
import { createSignatureHeader } from "./signature.ts";

/** Maximum bytes of a response that are stored. */
const RESPONSE_BYTES_MAX = 1_024;
/** Maximum delay that a receiver can request with `Retry-After`. Longer delays are reduced to this. */
const RETRY_AFTER_MS_MAX = 7 * 24 * 60 * 60 * 1_000;

type OutgoingRequest = {
  url: URL;
  method: "POST";
  headers: Record<string, string>;
  body: string;
  timeoutMs: number;
  responseBytesMax: number;
  /** Whether the URL may point to a private address. */
  allowPrivate: boolean;
  signal: AbortSignal;
};

/**
 * Sends a request to a user-supplied URL.
 * @throws an error. If `hasUserMessage` returns true for it, users may read its message.
 */
export type SendOutgoing = (
  request: OutgoingRequest,
) => Promise<{ status: number; headers: Headers; body: Uint8Array; durationMs: number }>;

export type AttemptResult = {
  deliveryId: string;
  outcome: "delivered" | "retried" | "failed";
  /** Whether the request was sent. */
  isAttempted: boolean;
  /** Time until the next attempt; null if there is none. */
  retryMs: number | null;
  responseStatus: number | null;
  responseBody: string | null;
  error: string | null;
  durationMs: number | null;
  /** The reason to disable the webhook; null if it stays enabled. */
  disableReason: "gone" | "exhausted" | null;
  /** How long deliveries must pause, as requested by the receiver; null if it didn't request a pause. */
  pauseMs: number | null;
};

type Dependencies = {
  send: SendOutgoing;
  /** Returns whether users may read the message of an error that `send` threw. */
  hasUserMessage(error: unknown): error is Error;
  secrets: Pick<WebhookSecrets, "open">;
  /** Whether URLs may point to private addresses. */
  allowPrivate: boolean;
  /** Timeout of the request, until the first bytes of the response. */
  timeoutMs: number;
  log: Log;
  /** Absent or null if tracing is off. */
  tracing?: Tracing | null;
};

/**
 * Creates a function that attempts a delivery. The function's promise rejects only if the signal is aborted.
 */
export function createAttemptFunction({
  send,
  hasUserMessage,
  secrets,
  allowPrivate,
  timeoutMs,
  log,
  tracing = null,
}: Dependencies) {
  function buildRequest(
    { id, url, ...event }: DueDelivery,
    decryptedSecrets: string[],
    signal: AbortSignal,
  ): OutgoingRequest {
    const body = createBody(event);
    const timestampS = Math.floor(Date.now() / 1_000);
    return {
      url: new URL(url),
      method: "POST",
      headers: {
        "content-type": "application/json",
        "user-agent": `Parley/${build.version}`,
        "webhook-id": id,
        "webhook-timestamp": String(timestampS),
        "webhook-signature": createSignatureHeader(decryptedSecrets, id, timestampS, body),
      },
      body,
      timeoutMs,
      responseBytesMax: RESPONSE_BYTES_MAX,
      allowPrivate,
      signal,
    };
  }

  /**
   * Traces a request. Starts a new trace, because the request that caused the event may have finished long ago. Doesn't record the
   * URL's path, because it may contain a secret.
   */
  function traceSend(webhookId: string, { id, url, attempts }: DueDelivery, call: () => ReturnType<SendOutgoing>) {
    if (!tracing) return call();
    const attributes = {
      "http.request.method": "POST",
      "server.address": new URL(url).hostname,
      "http.request.resend_count": attempts,
      "parley.webhook.id": webhookId,
      "parley.webhook.delivery_id": id,
    };
    return tracing.run("deliver webhook", { kind: SpanKind.CLIENT, parent: null, attributes }, async (span) => {
      const response = await call();
      span.setAttribute("http.response.status_code", response.status);
      if (response.status < 200 || response.status >= 300) failSpan(span, String(response.status));
      return response;
    });
  }

  return async function attempt(webhookId: string, delivery: DueDelivery, signal: AbortSignal): Promise<AttemptResult> {
    if (!delivery.isAllowed)
      return createAbandonedResult(delivery, "The owner of the webhook no longer has access to this event.");
    const decryptedSecrets = delivery.secrets.flatMap((sealed) => secrets.open(webhookId, sealed) ?? []);
    if (decryptedSecrets.length === 0)
      return createFailedResult(delivery, {
        error: "The secret of the webhook can't be decrypted: JWT_SECRET has changed. Rotate the secret.",
      });
    const startedAtMs = performance.now();
    try {
      const request = buildRequest(delivery, decryptedSecrets, signal);
      const response = await traceSend(webhookId, delivery, () => send(request));
      return classifyResponse(delivery, response);
    } catch (error) {
      if (signal.aborted) throw error;
      const isMessagePublic = hasUserMessage(error);
      if (!isMessagePublic)
        log.error({ err: error, webhook_id: webhookId, delivery_id: delivery.id }, "calling a webhook failed");
      return createFailedResult(delivery, {
        error: isMessagePublic ? error.message : "The request failed.",
        durationMs: Math.round(performance.now() - startedAtMs),
      });
    }
  };
}

const emptyResult = {
  isAttempted: true,
  retryMs: null,
  responseStatus: null,
  responseBody: null,
  error: null,
  durationMs: null,
  disableReason: null,
  pauseMs: null,
} as const;

const createAbandonedResult = ({ id }: DueDelivery, error: string): AttemptResult => ({
  ...emptyResult,
  deliveryId: id,
  outcome: "failed",
  isAttempted: false,
  error,
});

function createFailedResult(
  { id, attempts }: DueDelivery,
  responseFields: Partial<AttemptResult>,
  retryAfterMs: number | null = null,
): AttemptResult {
  const retryMs = findRetryDelayMs(attempts + 1, retryAfterMs);
  return {
    ...emptyResult,
    deliveryId: id,
    outcome: retryMs === null ? "failed" : "retried",
    retryMs,
    disableReason: retryMs === null ? "exhausted" : null,
    ...responseFields,
  };
}

function classifyResponse(delivery: DueDelivery, response: Awaited<ReturnType<SendOutgoing>>): AttemptResult {
  const { status, headers } = response;
  const responseFields = {
    responseStatus: status,
    responseBody: toStorableText(new TextDecoder().decode(response.body.subarray(0, RESPONSE_BYTES_MAX))) || null,
    durationMs: Math.round(response.durationMs),
  };
  if (status >= 200 && status < 300)
    return { ...emptyResult, deliveryId: delivery.id, outcome: "delivered", ...responseFields };
  const failedFields = { ...responseFields, error: describeStatus(status) };
  if (status === 410)
    return { ...emptyResult, deliveryId: delivery.id, outcome: "failed", ...failedFields, disableReason: "gone" };
  const retryAfterMs = parseRetryAfter(headers, Date.now(), RETRY_AFTER_MS_MAX);
  const result = createFailedResult(delivery, failedFields, retryAfterMs);
  return { ...result, pauseMs: status === 429 && retryAfterMs ? retryAfterMs : null };
}

function describeStatus(status: number): string {
  if (status === 410) return "The receiver is gone (HTTP 410), so the webhook was disabled.";
  if (status >= 300 && status < 400)
    return `The receiver responded with a redirect (HTTP ${status}); redirects are not followed.`;
  return `The receiver responded with HTTP ${status}.`;
}
