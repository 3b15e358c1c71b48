/** Header fields of requests to another server; the names are in small letters. */
export type HeaderFields = Readonly<Record<string, string>>;

/** Fields, and characters of one value: servers take no more of a head than about 16 KiB. */
const FIELDS_MAX = 50;
const VALUE_LENGTH_MAX = 8_192;

/** RFC 9110, 5.6.2. */
const namePattern = /^[!#$%&'*+.^_`|~\w-]{1,100}$/;
const valuePattern = /^[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?$/;

/** What the connection and the body decide: another value would break the request, or smuggle a second one into it. */
const reservedNames = new Set([
  "host",
  "content-length",
  "content-type",
  "content-encoding",
  "transfer-encoding",
  "connection",
  "keep-alive",
  "proxy-connection",
  "accept-encoding",
  "expect",
  "te",
  "trailer",
  "upgrade",
]);

/**
 * Header fields as they are configured, a JSON object like `{"api-key": "…"}`.
 * @returns null when the text is none, or a field of it must not be sent.
 */
export function parseHeaderFields(text: string): HeaderFields | null {
  return findHeaderFieldProblem(text) === null ? lowerNames(readObject(text) ?? {}) : null;
}

/** What is wrong with header fields, and what to do: a sentence without any of their values. Null: nothing is. */
export function findHeaderFieldProblem(text: string): string | null {
  const fields = readObject(text);
  if (fields === null) return 'the value is not a JSON object; write it like {"api-key": "…"}.';
  const names = Object.keys(fields);
  if (names.length > FIELDS_MAX) return `the value has more than ${FIELDS_MAX} header fields; leave some out.`;
  const seen = new Set<string>();
  for (const name of names) {
    const problem = findProblem(name, fields[name]);
    if (problem) return problem;
    if (seen.has(name.toLowerCase())) return `the header field ${name} is there twice; keep one of them.`;
    seen.add(name.toLowerCase());
  }
  return null;
}

function findProblem(name: string, value: unknown): string | null {
  if (!namePattern.test(name)) {
    // It may be a value that stands in the wrong place.
    return "the name of a header field has other characters than letters, digits and -; correct it.";
  }
  if (reservedNames.has(name.toLowerCase())) return `the header field ${name} is set by Parley itself; leave it out.`;
  if (typeof value !== "string") return `the header field ${name} is not a text; write its value in quotes.`;
  if (/[\r\n\0]/.test(value)) return `the header field ${name} has a line end in its value; remove it.`;
  if (value.length > VALUE_LENGTH_MAX)
    return `the header field ${name} is longer than ${VALUE_LENGTH_MAX} characters; shorten it.`;
  if (!valuePattern.test(value))
    return `the header field ${name} is empty, has a space at an end, or other characters than ASCII; correct its value.`;
  return null;
}

/** Fields that say who asks and how, and never hold a secret. Values of all others are masked. */
const openNames = new Set([
  ...["accept", "accept-language", "http-referer", "referer", "user-agent", "x-title", "x-openrouter-title"],
  ...["anthropic-version", "anthropic-beta", "openai-beta", "openai-organization", "openai-project"],
]);

/** A shorter one stands in too many texts that have nothing to do with it. UTF-16 units. */
const SECRET_CHARS_MIN = 4;

/** Values that must not appear anywhere; of one with a scheme before it (`Bearer …`) both forms. */
export function listHeaderSecrets(fields: HeaderFields): string[] {
  const values = Object.entries(fields).flatMap(([name, value]) => (openNames.has(name) ? [] : [value]));
  const all = values.flatMap((value) => [value, value.slice(value.lastIndexOf(" ") + 1)]);
  return [...new Set(all)].filter((secret) => secret.length >= SECRET_CHARS_MIN);
}

function readObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : null;
  } catch {
    return null;
  }
}

const lowerNames = (fields: Record<string, unknown>): HeaderFields =>
  Object.fromEntries(Object.entries(fields).map(([name, value]) => [name.toLowerCase(), String(value)]));
