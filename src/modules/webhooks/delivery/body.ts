/** Maximum body size, as recommended by Standard Webhooks 1.0.0. */
const BODY_BYTES_MAX = 20_000;
/** Maximum size of each field other than `content` and `reasoning`, if these fields together use more than half of the body. */
const FIELD_BYTES_MAX = 2_000;

export type WebhookEventData = {
  type: string;
  occurredAt: Date;
  conversationId: string | null;
  seq: number | null;
  data: Record<string, unknown>;
};

/**
 * Creates the JSON payload. If it is too large, truncates `reasoning` and then `content`, and sets `content_truncated: true` in
 * `data`.
 */
export function createBody(event: WebhookEventData): string {
  const body = formatBody(event, event.data);
  return countBytes(body) < BODY_BYTES_MAX ? body : formatBody(event, truncateData(event));
}

function formatBody(
  { type, occurredAt, conversationId, seq }: WebhookEventData,
  data: Record<string, unknown>,
): string {
  return JSON.stringify({
    type,
    timestamp: occurredAt.toISOString(),
    ...(conversationId !== null && { conversation_id: conversationId }),
    ...(seq !== null && { seq }),
    data,
  });
}

function truncateData(event: WebhookEventData): Record<string, unknown> {
  let data: Record<string, unknown> = { ...event.data, content_truncated: true };
  const textFields = textFieldNames.flatMap((name) => {
    const text = event.data[name];
    return typeof text === "string" ? [{ name, text }] : [];
  });
  for (const { name } of textFields) data[name] = "";
  if (countBytes(formatBody(event, data)) > BODY_BYTES_MAX / 2)
    data = Object.fromEntries(Object.entries(data).map(([name, value]) => [name, truncateField(value)]));
  for (const { name, text } of textFields)
    data[name] = truncate(text, BODY_BYTES_MAX - 1 - countBytes(formatBody(event, data)) + countBytes('""'));
  return data;
}

/** The text fields, in order of priority. Each field may use the bytes that the previous fields leave. */
const textFieldNames = ["content", "reasoning"];

/** Truncates a string. Replaces other oversized values with null, because a partial value would be misleading. */
function truncateField(value: unknown): unknown {
  if (typeof value === "string") return truncate(value, FIELD_BYTES_MAX);
  return countBytes(JSON.stringify(value) ?? "") > FIELD_BYTES_MAX ? null : value;
}

/** Returns the longest prefix of `text` that has at most `bytesMax` bytes as JSON, without splitting a character. */
function truncate(text: string, bytesMax: number): string {
  let fittingUnits = 0;
  // A UTF-16 code unit has at least one byte in UTF-8.
  let excessUnits = Math.min(text.length, Math.max(0, bytesMax)) + 1;
  while (excessUnits - fittingUnits > 1) {
    const middle = (fittingUnits + excessUnits) >> 1;
    if (countBytes(JSON.stringify(getPrefix(text, middle))) <= bytesMax) fittingUnits = middle;
    else excessUnits = middle;
  }
  return getPrefix(text, fittingUnits);
}

/** Returns the first `units` UTF-16 code units, or one fewer to avoid splitting a character. */
function getPrefix(text: string, units: number): string {
  const lastUnit = text.charCodeAt(units - 1);
  return text.slice(0, lastUnit >= 0xd800 && lastUnit <= 0xdbff ? units - 1 : units);
}

const countBytes = (text: string): number => Buffer.byteLength(text);
