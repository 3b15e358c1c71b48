/** Header fields for requests to another server, with lowercase names. */
export type HeaderFields = Readonly<Record<string, string>>;

/** Maximum number of configured header fields. */
const FIELDS_MAX = 50;
/** Maximum length of a configured header field's value. Servers usually accept about 16 KiB of headers. */
const VALUE_LENGTH_MAX = 8_192;

/** Matches the name of a field (RFC 9110, 5.6.2). */
const namePattern = /^[!#$%&'*+.^_`|~\w-]{1,100}$/;
const valuePattern = /^[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?$/;

/** Fields that depend on the connection or the body. Setting them could break the request or allow request smuggling. */
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
 * Parses header fields from a setting, a JSON object like `{"api-key": "…"}`.
 * @returns null if the setting is malformed or contains a field that isn't allowed.
 */
export function parseHeaderFields(text: string): HeaderFields | null {
  return findHeaderFieldProblem(text) === null ? lowercaseNames(parseObject(text) ?? {}) : null;
}

/** Explains why header fields are invalid and how to fix them, without showing a value. Returns null if they are valid. */
export function findHeaderFieldProblem(text: string): string | null {
  const fields = parseObject(text);
  if (fields === null) return 'the value is not a JSON object; write it as {"api-key": "…"}.';
  const names = Object.keys(fields);
  if (names.length > FIELDS_MAX) return `the value has more than ${FIELDS_MAX} header fields; remove some.`;
  const seenNames = new Set<string>();
  for (const name of names) {
    const problem = findFieldProblem(name, fields[name]);
    if (problem) return problem;
    if (seenNames.has(name.toLowerCase())) return `the header field ${name} appears twice; keep one of them.`;
    seenNames.add(name.toLowerCase());
  }
  return null;
}

function findFieldProblem(name: string, value: unknown): string | null {
  if (!namePattern.test(name)) {
    // The name isn't shown, because it may be a misplaced value.
    return "the name of a header field may only have letters, digits and -; correct it.";
  }
  if (reservedNames.has(name.toLowerCase())) return `the header field ${name} is set by Parley itself; remove it.`;
  if (typeof value !== "string") return `the header field ${name} is not a string; write its value in quotes.`;
  if (/[\r\n\0]/.test(value)) return `the header field ${name} has a line break in its value; remove it.`;
  if (value.length > VALUE_LENGTH_MAX)
    return `the header field ${name} is longer than ${VALUE_LENGTH_MAX} characters; shorten it.`;
  if (!valuePattern.test(value))
    return `the header field ${name} is empty, begins or ends with a space, or has non-ASCII characters; correct its value.`;
  return null;
}

/** Fields that never contain a secret. The values of all others are masked. */
const nonSecretNames = new Set([
  ...["accept", "accept-language", "http-referer", "referer", "user-agent", "x-title", "x-openrouter-title"],
  ...["anthropic-version", "anthropic-beta", "openai-beta", "openai-organization", "openai-project"],
]);

/** Minimum length of a masked secret, in UTF-16 code units. Shorter secrets appear in too many unrelated strings. */
const SECRET_CHARS_MIN = 4;

/** Lists the secret values. A value with a scheme (`Bearer …`) is listed with and without it. */
export function listHeaderSecrets(fields: HeaderFields): string[] {
  const values = Object.entries(fields).flatMap(([name, value]) => (nonSecretNames.has(name) ? [] : [value]));
  const secrets = values.flatMap((value) => [value, value.slice(value.lastIndexOf(" ") + 1)]);
  return [...new Set(secrets)].filter((secret) => secret.length >= SECRET_CHARS_MIN);
}

function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : null;
  } catch {
    return null;
  }
}

const lowercaseNames = (fields: Record<string, unknown>): HeaderFields =>
  Object.fromEntries(Object.entries(fields).map(([name, value]) => [name.toLowerCase(), String(value)]));
