/** A body is smaller than this, as Standard Webhooks 1.0.0 asks for. */
const BODY_BYTES_MAX = 20_000;
/** If the fields beside the texts are more than half of that, each of them is cut to so much. */
const FIELD_BYTES_MAX = 2_000;

export type Told = {
  type: string;
  occurredAt: Date;
  conversationId: string | null;
  seq: number | null;
  data: Record<string, unknown>;
};

/**
 * The JSON that is posted. If it is too long, `reasoning` and then `content` are cut at the end of a character, with
 * `content_truncated: true` in `data`.
 */
export function createBody(told: Told): string {
  const body = encode(told, told.data);
  return bytesOf(body) < BODY_BYTES_MAX ? body : encode(told, shorten(told));
}

function encode({ type, occurredAt, conversationId, seq }: Told, data: Record<string, unknown>): string {
  return JSON.stringify({
    type,
    timestamp: occurredAt.toISOString(),
    ...(conversationId !== null && { conversation_id: conversationId }),
    ...(seq !== null && { seq }),
    data,
  });
}

function shorten(told: Told): Record<string, unknown> {
  let short: Record<string, unknown> = { ...told.data, content_truncated: true };
  const texts = textFields.flatMap((name) => {
    const text = told.data[name];
    return typeof text === "string" ? [{ name, text }] : [];
  });
  for (const { name } of texts) short[name] = "";
  if (bytesOf(encode(told, short)) > BODY_BYTES_MAX / 2)
    short = Object.fromEntries(Object.entries(short).map(([name, value]) => [name, shortenField(value)]));
  for (const { name, text } of texts)
    short[name] = cut(text, BODY_BYTES_MAX - 1 - bytesOf(encode(told, short)) + bytesOf('""'));
  return short;
}

/** Each gets what those before it leave. */
const textFields = ["content", "reasoning"];

/** A text is cut; anything else that is too large is left out, so that it is what it was or null. */
function shortenField(value: unknown): unknown {
  if (typeof value === "string") return cut(value, FIELD_BYTES_MAX);
  return bytesOf(JSON.stringify(value) ?? "") > FIELD_BYTES_MAX ? null : value;
}

/** The longest beginning of a text that is at most so many bytes as JSON, with whole characters. */
function cut(text: string, bytesMax: number): string {
  let fits = 0;
  // A unit is at least a byte.
  let tooMany = Math.min(text.length, Math.max(0, bytesMax)) + 1;
  while (tooMany - fits > 1) {
    const middle = (fits + tooMany) >> 1;
    if (bytesOf(JSON.stringify(beginningOf(text, middle))) <= bytesMax) fits = middle;
    else tooMany = middle;
  }
  return beginningOf(text, fits);
}

/** The first `units` UTF-16 units, or one less where that would be half a character. */
function beginningOf(text: string, units: number): string {
  const last = text.charCodeAt(units - 1);
  return text.slice(0, last >= 0xd800 && last <= 0xdbff ? units - 1 : units);
}

const bytesOf = (text: string): number => Buffer.byteLength(text);
