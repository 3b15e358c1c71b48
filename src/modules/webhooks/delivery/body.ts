/** Maximum body size, as Standard Webhooks 1.0.0 recommends. */
const BODY_BYTES_MAX = 20_000;
/** If the other fields take more than half of that, each is cut to this size. */
const FIELD_BYTES_MAX = 2_000;

export type WebhookEventData = {
  type: string;
  occurredAt: Date;
  conversationId: string | null;
  seq: number | null;
  data: Record<string, unknown>;
};

/**
 * The JSON payload. If it is too long, `reasoning` and then `content` are cut between characters, and `data` gets
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
  const texts = textFields.flatMap((name) => {
    const text = event.data[name];
    return typeof text === "string" ? [{ name, text }] : [];
  });
  for (const { name } of texts) short[name] = "";
  if (bytesOf(encode(event, short)) > BODY_BYTES_MAX / 2)
    short = Object.fromEntries(Object.entries(short).map(([name, value]) => [name, shortenField(value)]));
  for (const { name, text } of texts)
    short[name] = cut(text, BODY_BYTES_MAX - 1 - bytesOf(encode(event, short)) + bytesOf('""'));
  return short;
}

/** Each field gets what the previous ones leave. */
const textFields = ["content", "reasoning"];

/** Cuts texts; drops other oversized values, so that a value is either unchanged or null. */
function shortenField(value: unknown): unknown {
  if (typeof value === "string") return cut(value, FIELD_BYTES_MAX);
  return bytesOf(JSON.stringify(value) ?? "") > FIELD_BYTES_MAX ? null : value;
}

/** The longest prefix of a text within this many bytes as JSON, with whole characters. */
function cut(text: string, bytesMax: number): string {
  let fits = 0;
  // A unit takes at least one byte.
  let tooMany = Math.min(text.length, Math.max(0, bytesMax)) + 1;
  while (tooMany - fits > 1) {
    const middle = (fits + tooMany) >> 1;
    if (bytesOf(JSON.stringify(beginningOf(text, middle))) <= bytesMax) fits = middle;
    else tooMany = middle;
  }
  return beginningOf(text, fits);
}

/** The first `units` UTF-16 units, or one less to avoid splitting a character. */
function beginningOf(text: string, units: number): string {
  const last = text.charCodeAt(units - 1);
  return text.slice(0, last >= 0xd800 && last <= 0xdbff ? units - 1 : units);
}

const bytesOf = (text: string): number => Buffer.byteLength(text);
