import { parseRetryAfter } from "../../../ai/retry-after.ts";
import { fitText } from "../../../db/storable.ts";
import { build } from "../../../lib/build.ts";
import type { Log } from "../../../lib/log.ts";
import type { WebhookSecrets } from "../secrets.ts";
import { createBody } from "./body.ts";
import type { DueDelivery } from "./due.ts";
import { findRetryDelay } from "./schedule.ts";
import { sign } from "./signature.ts";

/** Stored bytes of a response. */
const RESPONSE_BYTES_MAX = 1_024;
/** The longest `Retry-After` of a receiver that is respected. */
const RETRY_AFTER_MS_MAX = 7 * 24 * 60 * 60 * 1_000;

type OutgoingRequest = {
  url: URL;
  method: "POST";
  headers: Record<string, string>;
  body: string;
  timeoutMs: number;
  responseBytesMax: number;
  allowsPrivate: boolean;
  signal: AbortSignal;
};

/** Sends a request to a user-supplied address. @throws an error whose message users may read. */
export type SendOutgoing = (
  request: OutgoingRequest,
) => Promise<{ status: number; headers: Headers; body: Uint8Array; durationMs: number }>;

export type AttemptResult = {
  deliveryId: string;
  outcome: "delivered" | "retried" | "failed";
  /** Whether the request was sent. */
  isAttempted: boolean;
  /** Time until the next attempt; null: there is none. */
  retryMs: number | null;
  responseStatus: number | null;
  responseBody: string | null;
  error: string | null;
  durationMs: number | null;
  /** Why the webhook must be disabled; null: it stays enabled. */
  disables: "gone" | "exhausted" | null;
  /** The receiver requested a pause of all deliveries. */
  pauseMs: number | null;
};

type Dependencies = {
  send: SendOutgoing;
  /** Whether users may read the message of a `send` error. */
  isForUsers(error: unknown): error is Error;
  secrets: Pick<WebhookSecrets, "open">;
  allowsPrivate: boolean;
  /** Timeout of the whole request, including the start of its response. */
  timeoutMs: number;
  log: Log;
};

/** Makes one attempt of a delivery. Throws nothing but the reason of the signal. */
export function createAttempt({ send, isForUsers, secrets, allowsPrivate, timeoutMs, log }: Dependencies) {
  function createRequest({ id, url, ...event }: DueDelivery, keys: string[], signal: AbortSignal): OutgoingRequest {
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
        "webhook-signature": sign(keys, id, timestampS, body),
      },
      body,
      timeoutMs,
      responseBytesMax: RESPONSE_BYTES_MAX,
      allowsPrivate,
      signal,
    };
  }

  return async function attempt(webhookId: string, due: DueDelivery, signal: AbortSignal): Promise<AttemptResult> {
    if (!due.isAllowed) return abandon(due, "The owner of the webhook no longer has access to this event.");
    const keys = due.secrets.flatMap((sealed) => secrets.open(webhookId, sealed) ?? []);
    if (keys.length === 0)
      return fail(due, {
        error: "The secret of the webhook can't be decrypted: JWT_SECRET has changed. Rotate the secret.",
      });
    const startedMs = performance.now();
    try {
      const response = await send(createRequest(due, keys, signal));
      return judge(due, response);
    } catch (error) {
      if (signal.aborted) throw error;
      const isKnown = isForUsers(error);
      if (!isKnown) log.error({ err: error, webhook_id: webhookId, delivery_id: due.id }, "calling a webhook failed");
      return fail(due, {
        error: isKnown ? error.message : "The request failed.",
        durationMs: Math.round(performance.now() - startedMs),
      });
    }
  };
}

const noResult = {
  isAttempted: true,
  retryMs: null,
  responseStatus: null,
  responseBody: null,
  error: null,
  durationMs: null,
  disables: null,
  pauseMs: null,
} as const;

const abandon = ({ id }: DueDelivery, error: string): AttemptResult => ({
  ...noResult,
  deliveryId: id,
  outcome: "failed",
  isAttempted: false,
  error,
});

function fail(
  { id, attempts }: DueDelivery,
  answer: Partial<AttemptResult>,
  retryAfterMs: number | null = null,
): AttemptResult {
  const retryMs = findRetryDelay(attempts + 1, retryAfterMs);
  return {
    ...noResult,
    deliveryId: id,
    outcome: retryMs === null ? "failed" : "retried",
    retryMs,
    disables: retryMs === null ? "exhausted" : null,
    ...answer,
  };
}

function judge(due: DueDelivery, response: Awaited<ReturnType<SendOutgoing>>): AttemptResult {
  const { status, headers } = response;
  const answer = {
    responseStatus: status,
    responseBody: fitText(new TextDecoder().decode(response.body.subarray(0, RESPONSE_BYTES_MAX))) || null,
    durationMs: Math.round(response.durationMs),
  };
  if (status >= 200 && status < 300) return { ...noResult, deliveryId: due.id, outcome: "delivered", ...answer };
  const failure = { ...answer, error: describe(status) };
  if (status === 410) return { ...noResult, deliveryId: due.id, outcome: "failed", ...failure, disables: "gone" };
  const retryAfterMs = parseRetryAfter(headers, Date.now(), RETRY_AFTER_MS_MAX);
  const result = fail(due, failure, retryAfterMs);
  return { ...result, pauseMs: status === 429 && retryAfterMs ? retryAfterMs : null };
}

function describe(status: number): string {
  if (status === 410) return "The receiver is gone (HTTP 410), so the webhook was disabled.";
  if (status >= 300 && status < 400)
    return `The receiver responded with a redirect (HTTP ${status}); redirects are not followed.`;
  return `The receiver responded with HTTP ${status}.`;
}
