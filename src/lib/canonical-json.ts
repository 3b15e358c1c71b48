/** Formats JSON with sorted keys, so that equal content gives the same string whatever the client's key order. */
export function formatCanonicalJson(value: unknown): string {
  return JSON.stringify(value ?? null, (_key, part: unknown) => (isPlainObject(part) ? sortKeys(part) : part));
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function sortKeys(value: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
