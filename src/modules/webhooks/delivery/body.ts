/** Maximum body size, as Standard Webhooks 1.0.0 recommends. */
const BODY_BYTES_MAX = 20_000;
/** If the other fields take more than half of that, each is truncated to this size. */
const FIELD_BYTES_MAX = 2_000;

export type WebhookEventData = {
  type: string;
  occurredAt: Date;
  conversationId: string | null;
  seq: number | null;
  data: Record<string, unknown>;
};

/**
 * Creates the JSON payload. If it is too long, `reasoning` and then `content` are truncated, and `data` gets
 * `content_truncated: true`.
 */
export function createBody(event: WebhookEventData): string {
  const body = encode(event, event.data);
  return bytesOf(body) < BODY_BYTES_MAX ? body : encode(event, shorten(event));
}

function encode({ type, occurredAt, conversationId, seq }: WebhookEventData, data: Record<string, unknown>): string {
  return JSON.stringify({
    type,
    timestamp: occurredAt.toISOString(),
    ...(conversationId !== null && { conversation_id: conversationId }),
    ...(seq !== null && { seq }),
    data,
  });
}

function shorten(event: WebhookEventData): Record<string, unknown> {
  let short: Record<string, unknown> = { ...event.data, content_truncated: true };
  const texts = textFieldNames.flatMap((name) => {
    const text = event.data[name];
    return typeof text === "string" ? [{ name, text }] : [];
  });
  for (const { name } of texts) short[name] = "";
  if (bytesOf(encode(event, short)) > BODY_BYTES_MAX / 2)
    short = Object.fromEntries(Object.entries(short).map(([name, value]) => [name, shortenField(value)]));
  for (const { name, text } of texts)
    short[name] = truncate(text, BODY_BYTES_MAX - 1 - bytesOf(encode(event, short)) + bytesOf('""'));
  return short;
}

/** The text fields, in order of priority: each gets the bytes that the previous ones leave. */
const textFieldNames = ["content", "reasoning"];

/** Truncates texts. Other oversized values become null, so that they are never incomplete. */
function shortenField(value: unknown): unknown {
  if (typeof value === "string") return truncate(value, FIELD_BYTES_MAX);
  return bytesOf(JSON.stringify(value) ?? "") > FIELD_BYTES_MAX ? null : value;
}

/** Returns the longest prefix of a text, in whole characters, that takes at most `bytesMax` bytes as JSON. */
function truncate(text: string, bytesMax: number): string {
  let fittingUnits = 0;
  // A UTF-16 unit takes at least one byte.
  let excessUnits = Math.min(text.length, Math.max(0, bytesMax)) + 1;
  while (excessUnits - fittingUnits > 1) {
    const middle = (fittingUnits + excessUnits) >> 1;
    if (bytesOf(JSON.stringify(prefixOf(text, middle))) <= bytesMax) fittingUnits = middle;
    else excessUnits = middle;
  }
  return prefixOf(text, fittingUnits);
}

/** Returns the first `units` UTF-16 units, or one less to avoid splitting a character. */
function prefixOf(text: string, units: number): string {
  const last = text.charCodeAt(units - 1);
  return text.slice(0, last >= 0xd800 && last <= 0xdbff ? units - 1 : units);
}

const bytesOf = (text: string): number => Buffer.byteLength(text);
